/* token_test.c: what the golden data do not show: trust, streaming, hostile vocabularies, long runs, faults in files. */
#include "token/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- vocabularies made here ---- */

/* GPT-2's stand-in for a byte. */
static void put_byte_char(buf *b, int byte) {
    char c[4];
    uint32_t cp = (uint32_t)byte;
    bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    if (!printable) cp = byte <= 0x20 ? 0x100u + cp : byte <= 0xA0 ? 0x121u + (cp - 0x7F) : 0x143u;
    buf_put(b, c, utf8_encode(cp, c));
}

/* Byte-level BPE: 256 bytes, some merges, added tokens from id 300. */
static void byte_level_json(buf *b, const char *regex, const char *added) {
    buf_puts(b, "{\"added_tokens\":[");
    buf_puts(b, added);
    buf_printf(b, "],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                  "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
                  "\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{", regex);
    for (int i = 0; i < 256; i++) {
        buf_puts(b, i ? ",\"" : "\"");
        if (i == '"' || i == '\\') buf_putc(b, '\\');
        put_byte_char(b, i);
        buf_printf(b, "\":%d", i);
    }
    buf_puts(b, ",\"he\":256,\"ll\":257,\"hell\":258,\"hello\":259,\"aa\":260,\"aaaa\":261,\"<|\":262,\"|>\":263,\"<|e\":264,\"<|e|>\":300},"
                "\"merges\":[\"h e\",\"l l\",\"he ll\",\"hell o\",\"a a\",\"aa aa\",\"< |\",\"| >\",\"<| e\",\"<|e |>\"]}}");
}

#define ADDED                                                                                      \
    "{\"id\":300,\"content\":\"<|e|>\",\"special\":true},{\"id\":301,\"content\":\"<|s|>\",\"special\":true}," \
    "{\"id\":302,\"content\":\"<tool>\",\"special\":false},{\"id\":303,\"content\":\"\\n\\n\",\"special\":false}"

static tok_vocab *open_bytes(void) {
    buf b;
    tok_vocab *v = NULL;
    mote_error e;
    buf_init(&b, 1 << 20);
    byte_level_json(&b, "\\\\s+|\\\\S+", ADDED);
    static const char config[] = "{\"eos_token\":\"<|e|>\",\"chat_template\":\"<|s|>{{x}}<tool>\\n\\n\"}";
    if (tok_open_json(&v, buf_str(&b), STR(config), NULL, &e) != MOTE_OK) fail_msg("%s", e.message);
    buf_free(&b);
    return v;
}

static char gguf_path[] = "/tmp/mote-token-XXXXXX";

static void put_strings(gguf_writer *w, const char *key, const str *s, size_t n) {
    kv k = {.key = str_of(key), .type = KV_ARRAY, .elem = KV_STRING, .count = n, .strings = s};
    assert_int_equal(gguf_put_kv(w, &k, NULL), MOTE_OK);
}
static void put_numbers(gguf_writer *w, const char *key, kv_type type, const void *p, size_t n) {
    kv k = {.key = str_of(key), .type = KV_ARRAY, .elem = type, .count = n, .elems = p};
    assert_int_equal(gguf_put_kv(w, &k, NULL), MOTE_OK);
}

/* SentencePiece: <unk> <s> </s>, 256 bytes, then pieces; score = −rank. */
static mote_status open_spm(tok_vocab **v, model_file **f, size_t n_scores, size_t n_types, mote_error *err) {
    static const char *const pieces[] = {"\xE2\x96\x81", "h", "e", "l", "o", "a", "\xE2\x96\x81h", "ll", "he", "llo",
                                         "\xE2\x96\x81he", "\xE2\x96\x81hello", "aa", "<", "s", ">", "s>", "<s"};
    enum { N = 259 + COUNT_OF(pieces) };
    static char names[256][7];
    str text[N] = {STR("<unk>"), STR("<s>"), STR("</s>")};
    int32_t type[N] = {2, 3, 3};
    float score[N] = {0};
    for (int i = 0; i < 256; i++) {
        (void)snprintf(names[i], sizeof names[i], "<0x%02X>", (unsigned)i);
        text[3 + i] = str_of(names[i]);
        type[3 + i] = 6;
    }
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        text[259 + i] = str_of(pieces[i]);
        type[259 + i] = 1;
        score[259 + i] = -(float)i;
    }
    gguf_writer *w = NULL;
    int fd = mkstemp(gguf_path);
    assert_true(fd >= 0);
    (void)fclose(fdopen(fd, "w"));
    assert_int_equal(gguf_writer_open(&w, gguf_path, 32, NULL), MOTE_OK);
    assert_int_equal(gguf_put_str(w, "general.architecture", STR("llama"), NULL), MOTE_OK);
    assert_int_equal(gguf_put_str(w, "tokenizer.ggml.model", STR("llama"), NULL), MOTE_OK);
    put_strings(w, "tokenizer.ggml.tokens", text, N);
    put_numbers(w, "tokenizer.ggml.scores", KV_F32, score, n_scores ? n_scores : N);
    put_numbers(w, "tokenizer.ggml.token_type", KV_I32, type, n_types ? n_types : N);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1, NULL), MOTE_OK);
    assert_int_equal(gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 1u << 30, NULL), MOTE_OK); /* beyond: ignored */
    assert_int_equal(gguf_writer_begin(w, NULL), MOTE_OK);
    assert_int_equal(gguf_writer_commit(w, NULL), MOTE_OK);
    gguf_writer_close(&w);
    assert_int_equal(model_file_open(f, gguf_path, MODEL_FILE_NO_TENSORS_OK, NULL), MOTE_OK);
    (void)remove(gguf_path);
    memcpy(gguf_path + sizeof gguf_path - 7, "XXXXXX", 6);
    return tok_open(v, *f, NULL, err);
}

/* The ids of a text as "1 2 3". */
static const char *ids_of(const tok_vocab *v, const char *text, int flags) {
    static char out[4096];
    tok_ids ids = {0};
    size_t n = 0;
    mote_error e;
    if (tok_encode(v, str_of(text), flags, &ids, &e) != MOTE_OK) fail_msg("%s", e.message);
    out[0] = 0;
    for (size_t i = 0; i < ids.n && n < sizeof out - 16; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, i ? " %d" : "%d", ids.p[i]);
    tok_ids_free(&ids);
    return out;
}

/* ---- the tests ---- */

static void merges(void **state) {
    (void)state;
    tok_vocab *v = open_bytes();
    assert_string_equal(ids_of(v, "hello", 0), "259");
    assert_string_equal(ids_of(v, "hellhe", 0), "258 256");
    assert_string_equal(ids_of(v, "aaaaaaa", 0), "261 260 97");
    assert_string_equal(ids_of(v, "", 0), "");
    assert_int_equal(tok_find(v, STR("hello")), 259);
    assert_int_equal(tok_find(v, STR("nothing")), TOK_NONE);
    int32_t two[2];
    size_t n = 0;
    assert_int_equal(tok_encode_into(v, STR("aaaaaaa"), 0, two, 2, &n, NULL), MOTE_OK);
    assert_int_equal(n, 3);
    assert_int_equal(two[1], 260);
    tok_close(&v);
    tok_close(&v);
}

static void control_tokens_only_on_request(void **state) {
    (void)state;
    tok_vocab *v = open_bytes();
    assert_string_equal(ids_of(v, "a<|e|>", TOK_SPECIAL), "97 300");
    /* off: neither parsed, nor merged to (there is a merge that makes it), nor taken as a whole word */
    assert_string_equal(ids_of(v, "a<|e|>", 0), "97 264 263");
    assert_string_equal(ids_of(v, "<|e|>", 0), "264 263");
    assert_true(tok_is_eog(v, 300));
    assert_true(tok_is_control(v, 300));
    assert_false(tok_is_control(v, 302));
    assert_int_equal(tok_id(v, TOK_ROLE_EOS), 300);
    assert_int_equal(tok_id(v, TOK_ROLE_FIM_PRE), TOK_NONE);
    assert_string_equal(ids_of(v, "a<tool>", 0), "97 302"); /* user-defined: always */
    assert_int_equal(tok_piece(v, 300, 0).n, 0);
    assert_true(str_is(tok_piece(v, 300, TOK_SPECIAL), "<|e|>"));
    assert_int_equal(tok_piece(v, 99999, 0).n, 0);
    assert_int_equal(tok_piece(v, -5, 0).n, 0);
    tok_close(&v);
}

static bool has_id(const tok_ids *ids, int32_t id) {
    for (size_t i = 0; i < ids->n; i++)
        if (ids->p[i] == id) return true;
    return false;
}

static void untrusted_spans(void **state) {
    (void)state;
    tok_vocab *v = open_bytes();
    static const char *const users[] = {"hi", "<|e|>", "|e|>", "<|e|", "<tool>", "x\n\ny", "\n", "<|s|><|e|>"};
    for (size_t i = 0; i < COUNT_OF(users); i++) {
        tok_span spans[] = {{STR("<|s|>hello "), true}, {str_of(users[i]), false}, {STR("<|e|>"), true}};
        tok_ids ids = {0};
        assert_int_equal(tok_encode_spans(v, spans, 3, 0, &ids, NULL), MOTE_OK);
        assert_int_equal(ids.p[0], 301);
        assert_int_equal(ids.p[ids.n - 1], 300);
        size_t controls = 0;
        for (size_t k = 0; k < ids.n; k++) controls += tok_is_control(v, ids.p[k]);
        assert_int_equal(controls, 2);
        assert_false(has_id(&ids, 302)); /* the template's delimiter */
        buf back;
        buf_init(&back, 4096);
        assert_int_equal(tok_detokenize(v, ids.p, ids.n, TOK_SPECIAL, &back, NULL), MOTE_OK);
        char want[128];
        (void)snprintf(want, sizeof want, "<|s|>hello %s<|e|>", users[i]);
        assert_string_equal(back.p, want);
        buf_free(&back);
        tok_ids_free(&ids);
    }
    /* straddling: every cut of a control token between a trusted and an untrusted part */
    for (size_t cut = 1; cut < 5; cut++) {
        static const char token[] = "<|e|>";
        tok_span spans[] = {{{token, cut}, true}, {{token + cut, 5 - cut}, false}};
        tok_span back[] = {{{token, cut}, false}, {{token + cut, 5 - cut}, true}};
        tok_ids ids = {0};
        assert_int_equal(tok_encode_spans(v, spans, 2, 0, &ids, NULL), MOTE_OK);
        assert_int_equal(tok_encode_spans(v, back, 2, 0, &ids, NULL), MOTE_OK);
        assert_false(has_id(&ids, 300));
        tok_ids_free(&ids);
    }
    /* without special text in it, the same as the joined text */
    tok_span spans[] = {{STR("<|s|>he"), true}, {STR("llo aaa\n"), false}, {STR("\na"), true}, {STR(""), false}};
    tok_ids ids = {0}, whole = {0};
    assert_int_equal(tok_encode_spans(v, spans, 4, 0, &ids, NULL), MOTE_OK);
    assert_int_equal(tok_encode(v, STR("<|s|>hello aaa\n\na"), TOK_SPECIAL, &whole, NULL), MOTE_OK);
    assert_int_equal(ids.n, whole.n);
    assert_memory_equal(ids.p, whole.p, ids.n * sizeof *ids.p);
    tok_ids_free(&ids);
    tok_ids_free(&whole);
    tok_close(&v);
}

static void spm(void **state) {
    (void)state;
    tok_vocab *v = NULL;
    model_file *f = NULL;
    mote_error e;
    assert_int_equal(open_spm(&v, &f, 0, 0, &e), MOTE_OK);
    assert_string_equal(ids_of(v, "hello", 0), "270");
    assert_string_equal(ids_of(v, "", TOK_BOS), "1");
    assert_string_equal(ids_of(v, "<s>", TOK_SPECIAL), "1");
    tok_ids ids = {0};
    /* "<s" + ">" would make the control token <s>, whose score is the highest of all */
    assert_int_equal(tok_encode(v, STR("<s>"), 0, &ids, NULL), MOTE_OK);
    assert_false(has_id(&ids, 1));
    tok_ids_free(&ids);
    static const char text[] = "hello \xF0\x9F\x98\x80 \xC3\xA9\xFF\x00 x  ";
    str whole = {text, sizeof text - 1};
    assert_int_equal(tok_encode(v, whole, 0, &ids, NULL), MOTE_OK);
    buf back;
    buf_init(&back, 4096);
    assert_int_equal(tok_detokenize(v, ids.p, ids.n, TOK_TRIM, &back, NULL), MOTE_OK);
    assert_true(str_eq(buf_str(&back), whole));
    buf_free(&back);
    tok_ids_free(&ids);
    assert_int_equal(tok_id(v, TOK_ROLE_EOS), 2);
    tok_close(&v);
    model_file_close(&f);
    assert_int_equal(open_spm(&v, &f, 5, 0, &e), MOTE_E_MISMATCH); /* fewer scores than tokens */
    assert_null(v);
    model_file_close(&f);
    assert_int_equal(open_spm(&v, &f, 0, 7, &e), MOTE_E_MISMATCH);
    model_file_close(&f);
}

/* Every way to cut a text into tokens of one byte: what comes out is always whole characters. */
static void streaming(void **state) {
    (void)state;
    tok_vocab *v = open_bytes();
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"h\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80!", "h\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80!"},
        {"\xF0\x9F\x98", "\xEF\xBF\xBD"},
        {"\xE4\xB8x", "\xEF\xBF\xBDx"},
        {"\xFF\x80z", "\xEF\xBF\xBD\xEF\xBF\xBDz"},
        {"\xE4\xC3\xA9", "\xEF\xBF\xBD\xC3\xA9"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        tok_stream s;
        buf out;
        buf_init(&out, 4096);
        tok_stream_init(&s, v, 0);
        for (const char *p = cases[i].in; *p; p++) {
            tok_stream_put(&s, (unsigned char)*p, &out);
            assert_true(utf8_valid(out.p ? out.p : "", out.n));
        }
        tok_stream_end(&s, &out);
        assert_string_equal(out.p, cases[i].out);
        buf_free(&out);
    }
    tok_close(&v);
}

static mote_status try_json(const char *json, const char *text) {
    tok_vocab *v = NULL;
    tok_ids ids = {0};
    mote_error e = {0};
    mote_status s = tok_open_json(&v, str_of(json), (str){0}, NULL, &e);
    if (s == MOTE_OK && text) s = tok_encode(v, str_of(text), TOK_SPECIAL, &ids, &e);
    if (s != MOTE_OK) assert_int_not_equal(e.message[0], 0);
    tok_ids_free(&ids);
    tok_close(&v);
    assert_null(v);
    return s;
}

static void hostile_json(void **state) {
    (void)state;
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define REGEX(r) "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" r "\"},\"behavior\":\"Isolated\"}}"
    static const char many_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    assert_int_equal(try_json("{" MODEL "}", "abab"), MOTE_OK);
    assert_int_equal(try_json(REGEX("(a+)+$"), many_a), MOTE_E_LIMIT);
    assert_int_equal(try_json(REGEX("(?:a|aa)+$"), many_a), MOTE_E_LIMIT);
    assert_int_equal(try_json(REGEX("(a)\\\\1"), "aab"), MOTE_OK);
    assert_int_equal(try_json(REGEX("a*"), "bbb"), MOTE_OK); /* empty matches end */
    assert_int_equal(try_json(REGEX("(?=a)|\\\\K"), "bab"), MOTE_OK);
    assert_int_equal(try_json(REGEX("\\\\p{NoSuch}"), "a"), MOTE_E_UNSUPPORTED);
    assert_int_equal(try_json(REGEX("(*UTF)a"), "a"), MOTE_E_UNSUPPORTED);
    assert_int_equal(try_json(REGEX("["), "a"), MOTE_E_UNSUPPORTED);
    assert_int_equal(try_json("", NULL), MOTE_E_FORMAT);
    assert_int_equal(try_json("[]", NULL), MOTE_E_FORMAT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"BPE\"}}", NULL), MOTE_E_FORMAT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2147483647}}}", NULL), MOTE_E_LIMIT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}", NULL), MOTE_E_LIMIT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"}}}", NULL), MOTE_E_FORMAT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"BPE\",\"vocab\":[[\"a\",1]],\"merges\":[]}}", NULL), MOTE_E_FORMAT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[1,\"a\"]]}}", NULL), MOTE_E_FORMAT);
    assert_int_equal(try_json("{\"model\":{\"type\":\"Unigram\",\"unk_id\":99,\"vocab\":[[\"a\",-1]]}}", "ab"), MOTE_OK);
    assert_int_equal(try_json("{\"model\":{\"type\":\"Other\",\"vocab\":{\"a\":0}}}", NULL), MOTE_E_UNSUPPORTED);
    assert_int_equal(try_json("{" MODEL ",\"normalizer\":{\"type\":\"Odd\"}}", NULL), MOTE_E_UNSUPPORTED);
    /* merges of absent tokens, of nothing, cyclic, of the wrong type: ignored */
    assert_int_equal(try_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",\"aa a\",\"a aa\",\"x y\","
                              "\"a\",\"\",7,[\"a\"],[\"a\",\"a\"],[1,2]]}}", "aaaaaaaa"), MOTE_OK);
    assert_int_equal(try_json("{" MODEL ",\"added_tokens\":[{\"id\":3,\"content\":\"\"},{\"id\":3,\"content\":\"b\"},{\"id\":3,\"content\":\"b\"}]}", "b"), MOTE_OK);
    assert_int_equal(try_json("{" MODEL ",\"added_tokens\":[{\"id\":2147483647,\"content\":\"x\"}]}", NULL), MOTE_E_LIMIT);
    buf b; /* nesting, a long alternation, a long token */
    buf_init(&b, 1 << 22);
    for (int i = 0; i < 100000; i++) buf_puts(&b, "{\"model\":");
    assert_int_equal(try_json(b.p, NULL), MOTE_E_LIMIT);
    buf_clear(&b);
    buf_puts(&b, "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"");
    for (int i = 0; i < 10000; i++) buf_printf(&b, "a%d|", i);
    buf_puts(&b, "b\"}}}");
    assert_int_equal(try_json(b.p, many_a), MOTE_E_UNSUPPORTED); /* PCRE2 takes none so large */
    buf_clear(&b);
    buf_puts(&b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"");
    for (int i = 0; i < 1 << 20; i++) buf_putc(&b, 'a');
    buf_puts(&b, "\":0}}}");
    assert_int_equal(try_json(b.p, NULL), MOTE_E_LIMIT);
    buf_free(&b);
}

/* A megabyte of one character, in well under a second each; by the letter of the contract 10 MB in 2 s. */
static void long_runs(void **state) {
    (void)state;
    static const char *const units[] = {"a", " ", "\n", "h", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "<|", "e\xCC\x81", "\xFF"};
    tok_vocab *v[2] = {open_bytes(), NULL};
    model_file *f = NULL;
    assert_int_equal(open_spm(&v[1], &f, 0, 0, NULL), MOTE_OK);
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        buf b, back;
        buf_init(&b, (size_t)1 << 22);
        while (b.n < 1000000) buf_puts(&b, units[i]);
        for (int k = 0; k < 2; k++) {
            tok_ids ids = {0};
            buf_init(&back, (size_t)1 << 23);
            uint64_t t0 = clock_ns();
            assert_int_equal(tok_encode(v[k], buf_str(&b), 0, &ids, NULL), MOTE_OK);
            assert_true(clock_ns() - t0 < 5000000000u); /* generous: sanitizers, a busy machine */
            assert_int_equal(tok_detokenize(v[k], ids.p, ids.n, TOK_TRIM, &back, NULL), MOTE_OK);
            assert_true(str_eq(buf_str(&back), buf_str(&b)));
            tok_ids_free(&ids);
            buf_free(&back);
        }
        buf_free(&b);
    }
    tok_close(&v[0]);
    tok_close(&v[1]);
    model_file_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges),    cmocka_unit_test(control_tokens_only_on_request),
        cmocka_unit_test(untrusted_spans), cmocka_unit_test(spm),
        cmocka_unit_test(streaming), cmocka_unit_test(hostile_json),
        cmocka_unit_test(long_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
