/* tok_train_test.c: vocabularies learnt from text: the merges of a naive reference and of Hugging Face's trainer, and files
 * that give every string back. */
#include "base/base.h"
#include "report.h"
#include "token/tok_train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "ok.h"

static const char *const no_special[] = {"<|end|>"};

static tok_train *learn(str text, size_t vocab, uint64_t min_count, const char *pre) {
    tok_train *t;
    const tok_train_opts o = {.vocab_size = vocab, .min_count = min_count, .pre = pre, .special = no_special, .n_special = 1};
    OK(tok_train_open(&t, &o, &e_));
    OK(tok_train_feed(t, text, &e_));
    OK(tok_train_finish(t, &e_));
    return t;
}

/* ---- the naive reference: words by spaces, all pairs counted anew for every merge ---- */

enum { REF_WORDS = 4000, REF_LETTERS = 16, REF_TOKENS = 600 };
typedef struct reference {
    int32_t word[REF_WORDS][REF_LETTERS];
    int n[REF_WORDS], n_words;
    str token[REF_TOKENS]; /* ids as the trainer numbers them, after its 257 first ones */
    size_t n_tokens;
    int32_t left[REF_TOKENS], right[REF_TOKENS];
    size_t n_merges;
    char text[REF_TOKENS][64];
} reference;

static int32_t ref_id(reference *r, int32_t a, int32_t b, tok_train *t) {
    char joined[64];
    str x = tok_train_token(t, (size_t)a), y = tok_train_token(t, (size_t)b);
    (void)snprintf(joined, sizeof joined, "%.*s%.*s", (int)x.n, x.p, (int)y.n, y.p);
    for (size_t i = 0; i < r->n_tokens; i++)
        if (str_is(r->token[i], joined)) return (int32_t)(257 + i);
    memcpy(r->text[r->n_tokens], joined, sizeof joined);
    r->token[r->n_tokens] = str_of(r->text[r->n_tokens]);
    return (int32_t)(257 + r->n_tokens++);
}

static bool ref_merge(reference *r, int min_count, tok_train *t) {
    static int counts[256 + REF_TOKENS][256 + REF_TOKENS];
    memset(counts, 0, sizeof counts);
    for (int w = 0; w < r->n_words; w++)
        for (int i = 1; i < r->n[w]; i++) counts[r->word[w][i - 1]][r->word[w][i]]++;
    int32_t a = 0, b = 0;
    for (int32_t i = 0; i < 256 + REF_TOKENS; i++)
        for (int32_t k = 0; k < 256 + REF_TOKENS; k++)
            if (counts[i][k] > counts[a][b]) a = i, b = k;
    if (counts[a][b] < min_count) return false;
    int32_t made = ref_id(r, a, b, t);
    r->left[r->n_merges] = a;
    r->right[r->n_merges++] = b;
    for (int w = 0; w < r->n_words; w++) {
        int n = 0;
        for (int i = 0; i < r->n[w]; i++) {
            bool hit = i + 1 < r->n[w] && r->word[w][i] == a && r->word[w][i + 1] == b;
            r->word[w][n++] = hit ? made : r->word[w][i];
            i += hit;
        }
        r->n[w] = n;
    }
    return true;
}

static void merges_are_those_of_counting_everything_anew(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 3; seed++) {
        rng g;
        rng_seed(&g, seed, 1);
        buf text;
        buf_init(&text, 1 << 20);
        reference *r = MEM_NEW(reference);
        int n_words = seed == 2 ? 50 : 2000;
        for (int w = 0; w < n_words; w++) {
            int n = 1 + (int)rng_below(&g, REF_LETTERS - 2);
            if (w) buf_putc(&text, ' ');
            for (int i = 0; i < n; i++) buf_putc(&text, (char)('a' + rng_below(&g, seed == 2 ? 2 : 9) * rng_below(&g, 2)));
        }
        tok_train *t = learn(buf_str(&text), 257 + 300, 3, "gpt-2");
        for (size_t i = 0; i < text.n; i++) { /* "a bc": the words are "a" and " bc" */
            if (i == 0 || text.p[i] == ' ') r->n_words++;
            int w = r->n_words - 1;
            for (int32_t id = 1; id < 257; id++)
                if (tok_train_token(t, (size_t)id).p[0] == text.p[i]) r->word[w][r->n[w]++] = id;
        }
        while (r->n_tokens < 300 && ref_merge(r, 3, t)) {}
        assert_int_equal(tok_train_n_merges(t), r->n_merges);
        assert_int_equal(tok_train_count(t), 257 + r->n_tokens);
        assert_true(seed == 2 || r->n_tokens == 300);
        for (size_t i = 0; i < r->n_merges; i++) {
            int32_t left, right, made;
            tok_train_merge(t, i, &left, &right, &made);
            assert_int_equal(left, r->left[i]);
            assert_int_equal(right, r->right[i]);
        }
        tok_train_close(&t);
        mem_free(r);
        buf_free(&text);
    }
    if (getenv("MOTE_REPORT")) report_row("vocab", "BPE trainer, 3 corpora", "all merges equal", "all", "ok", "-", "heap against counting anew");
}

/* ---- Hugging Face's trainer, version 0.23, on this text: tokens 257 and up ---- */
static const char sample[] =
    "The quick brown fox jumps over the lazy dog. The dog, who was 12 years old, didn't mind: he'd seen 1,234 foxes before!\n"
    "The fox, for its part, thought the dog rather dull; \"a thoroughly dull dog,\" it thought, and thought it through again.\n\n"
    "    def through(thought):\n        return thought + thought  # caf\xC3\xA9, \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E, \xF0\x9F\x98\x80\n";
#include "hf_bpe_tab.h"

static void the_merges_are_hugging_faces(void **state) {
    (void)state;
    tok_train *t = learn(str_of(sample), 257 + 80, 2, "smollm");
    assert_int_equal(tok_train_count(t), 257 + COUNT_OF(hf_tokens));
    for (size_t i = 0; i < COUNT_OF(hf_tokens); i++) {
        str token = tok_train_token(t, 257 + i);
        assert_int_equal(token.n, strlen(hf_tokens[i]));
        assert_memory_equal(token.p, hf_tokens[i], token.n);
    }
    tok_train_close(&t);
}

static void files_give_every_string_back(void **state) {
    (void)state;
    static const char *const pres[] = {"smollm", "gpt-2", "qwen2"};
    static const char *const hard[] = {"", " ", "\n\n \t", "Hello  world's 12345 <|end|>", "na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9",
                                       "\xff\xfe\x00z", "aaaaaaaaaaaaaaaaaaaaaaaaaa", "thoughtthoughthrough", "\xE0\xA0", "don't I'll WE'VE"};
    char folder[] = "/tmp/mote_vocab_XXXXXX", path[256];
    assert_non_null(mkdtemp(folder));
    for (size_t p = 0; p < COUNT_OF(pres); p++) {
        tok_train *t = learn(str_of(sample), 257 + 80, 2, pres[p]);
        model_file *f;
        tok_vocab *v[2];
        file_map map;
        (void)snprintf(path, sizeof path, "%s/v.gguf", folder);
        OK(tok_train_write(t, path, &e_));
        OK(model_file_open(&f, path, MODEL_FILE_NO_TENSORS_OK, &e_));
        OK(tok_open(&v[0], f, NULL, &e_));
        OK(tok_train_write(t, folder, &e_));
        (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        OK(file_open(&map, path, FILE_READ, &e_));
        OK(tok_open_json(&v[1], (str){(const char *)map.p, map.n}, (str){NULL, 0}, NULL, &e_));
        assert_int_equal(tok_count(v[0]), tok_train_count(t));
        assert_int_equal(tok_count(v[1]), tok_train_count(t));
        assert_int_equal(tok_id(v[0], TOK_ROLE_EOS), 0);
        assert_true(tok_is_control(v[0], 0) && tok_is_control(v[1], 0));
        for (size_t i = 0; i < COUNT_OF(hard) + 1; i++) {
            str s = i < COUNT_OF(hard) ? str_of(hard[i]) : str_of(sample);
            if (i == 5) s.n = 4;
            tok_ids ids[2] = {{0}, {0}};
            buf back;
            buf_init(&back, 1 << 16);
            for (int k = 0; k < 2; k++) {
                OK(tok_encode(v[k], s, 0, &ids[k], &e_));
                buf_clear(&back);
                OK(tok_detokenize(v[k], ids[k].p, ids[k].n, 0, &back, &e_));
                assert_int_equal(back.n, s.n);
                if (s.n) assert_memory_equal(back.p, s.p, s.n);
            }
            assert_int_equal(ids[0].n, ids[1].n);
            if (ids[0].n) assert_memory_equal(ids[0].p, ids[1].p, ids[0].n * sizeof *ids[0].p);
            for (int k = 0; k < 2; k++) tok_ids_free(&ids[k]);
            buf_free(&back);
        }
        tok_close(&v[0]);
        tok_close(&v[1]);
        model_file_close(&f);
        file_close(&map);
        tok_train_close(&t);
    }
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static void bad_wishes_are_refused(void **state) {
    (void)state;
    tok_train *t;
    mote_error err;
    static const char *const twice[] = {"<a>", "<a>"};
    tok_train_opts o = {.vocab_size = 258};
    assert_int_equal(tok_train_open(&t, &o, &err), MOTE_E_USAGE);
    o = (tok_train_opts){.vocab_size = 1000, .pre = "unknown"};
    assert_int_equal(tok_train_open(&t, &o, &err), MOTE_E_USAGE);
    o = (tok_train_opts){.vocab_size = 1000, .special = twice, .n_special = 2};
    assert_int_equal(tok_train_open(&t, &o, &err), MOTE_E_USAGE);
    o = (tok_train_opts){.vocab_size = 1000};
    OK(tok_train_open(&t, &o, &e_));
    assert_int_equal(tok_train_finish(t, &err), MOTE_E_FORMAT);
    tok_train_close(&t);
    /* a word that would become a special token does not */
    buf text;
    buf_init(&text, 1 << 16);
    for (int i = 0; i < 500; i++) buf_puts(&text, "end ");
    static const char *const word[] = {"end"};
    o = (tok_train_opts){.vocab_size = 300, .pre = "gpt-2", .special = word, .n_special = 1};
    OK(tok_train_open(&t, &o, &e_));
    OK(tok_train_feed(t, buf_str(&text), &e_));
    OK(tok_train_finish(t, &e_));
    for (size_t i = 0; i < tok_train_n_merges(t); i++) {
        int32_t left, right, made;
        tok_train_merge(t, i, &left, &right, &made);
        assert_true(made > 0);
    }
    tok_train_close(&t);
    buf_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_are_those_of_counting_everything_anew),
        cmocka_unit_test(the_merges_are_hugging_faces),
        cmocka_unit_test(files_give_every_string_back),
        cmocka_unit_test(bad_wishes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
