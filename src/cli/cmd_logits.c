/* cmd_logits.c: token ids in, logits out. */
#include "commands.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct logits_options {
    model_flags model;
    session_flags session;
    const char *ids, *text, *output;
    bool bos, top;
};

const cli_option logits_options[] = {
    OPT_STR(struct logits_options, ids, "ids", NULL, "1,2,3", "the token ids"),
    OPT_STR(struct logits_options, text, "prompt", "p", "TEXT", "a text instead of ids, tokenized as the model wants it"),
    OPT_STR(struct logits_options, output, "output", "o", "FILE", "write float32 numbers here: ids × vocabulary, little-endian (- for standard output)"),
    OPT_FLAG(struct logits_options, top, "top", NULL, "print the five likeliest next tokens at each position"),
    MODEL_OPTIONS(struct logits_options, model),
    SESSION_OPTIONS(struct logits_options, session),
    {0},
};
const cli_example logits_examples[] = {
    {"mote logits -m model.gguf --ids 1,2,3 -o out.f32", "three rows of float32 logits"},
    {"mote logits -m model.gguf -p 'The capital of France is' --top", "what comes next, and how likely"},
    {0},
};

#define TOP 5
/* Not the number of ids: some models choose their RoPE factors by the size of the context. */
#define CTX_DEFAULT 512

static void print_top(const mote_model *m, const id_list *ids, const float *logits, size_t n_vocab) {
    for (size_t t = 0; t < ids->n; t++) {
        const float *row = logits + t * n_vocab;
        size_t best[TOP], n = 0;
        for (size_t v = 0; v < n_vocab; v++) {
            size_t at = n < TOP ? n++ : row[v] > row[best[TOP - 1]] ? TOP - 1 : TOP;
            if (at == TOP) continue;
            while (at > 0 && row[v] > row[best[at - 1]]) best[at] = best[at - 1], at--;
            best[at] = v;
        }
        (void)printf("%zu\t%d", t, ids->p[t]);
        for (size_t i = 0; i < n; i++) {
            char piece[128];
            size_t len = mote_model_has_tokenizer(m) ? mote_token_piece(m, (int32_t)best[i], MOTE_TOK_SPECIAL, piece, sizeof piece) : 0;
            json_t *text = cli_json_text(piece, len < sizeof piece ? len : sizeof piece);
            char *shown = len ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
            (void)printf("\t%zu %s %.4f", best[i], shown ? shown : "", (double)row[best[i]]);
            free(shown);
            json_decref(text);
        }
        (void)putchar('\n');
    }
}

/* Beside the target, then renamed: a reader never sees half of it. */
static int write_file(const char *path, const float *p, size_t n) {
    if (strcmp(path, "-") == 0) {
        (void)fwrite(p, sizeof *p, n, stdout);
        return CLI_OK;
    }
    size_t len = strlen(path) + 8;
    char *tmp = malloc(len);
    FILE *f = NULL;
    int code = CLI_IO;
    if (!tmp) goto out;
    (void)snprintf(tmp, len, "%s.part", path);
    f = fopen(tmp, "wbe");
    if (!f || fwrite(p, sizeof *p, n, f) != n || fflush(f) != 0 || fsync(fileno(f)) != 0) goto out;
    if (fclose(f) == 0 && rename(tmp, path) == 0) code = CLI_OK;
    f = NULL;
out:
    if (code != CLI_OK) cli_say("%s: %s", path, strerror(errno));
    if (f) (void)fclose(f);
    if (code != CLI_OK && tmp) (void)unlink(tmp);
    free(tmp);
    return code;
}

static int compute(loaded *l, const struct logits_options *o, const id_list *ids) {
    mote_error err;
    mote_session_opts so = load_session_opts(&o->session);
    if (!o->session.ctx) so.n_ctx = ids->n > CTX_DEFAULT ? ids->n : CTX_DEFAULT;
    int code = load_session(l, &o->session, &so, o->model.verbose);
    if (code != CLI_OK) return code;
    size_t n_vocab = mote_model_n_vocab(l->model);
    float *logits = ids->n <= SIZE_MAX / sizeof *logits / (n_vocab + 1) ? malloc((ids->n * n_vocab + 1) * sizeof *logits) : NULL;
    if (!logits) {
        cli_say("out of memory for %zu × %zu logits", ids->n, n_vocab);
        return CLI_IO;
    }
    if (mote_session_append_logits(l->session, 0, ids->p, ids->n, logits, &err) != MOTE_OK) code = cli_fail(&err);
    if (code == CLI_OK && o->top) print_top(l->model, ids, logits, n_vocab);
    if (code == CLI_OK && o->output) code = write_file(o->output, logits, ids->n * n_vocab);
    free(logits);
    return code;
}

int cmd_logits(const cli_command *self, int argc, char **argv) {
    /* This is for finding faults: everything is float32 unless one asks for what `run` uses. */
    struct logits_options o = {.session = {.type_k = "f32", .type_v = "f32", .activations = "f32"}};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if ((o.ids != NULL) + (o.text != NULL) != 1) return cli_usage(self, "which tokens? --ids 1,2,3 or -p TEXT, one of them");
    if (!o.output && !o.top) return cli_usage(self, "nothing to do: -o FILE writes logits, --top prints the likeliest tokens");
    id_list ids = {0};
    loaded l = {0};
    if (o.ids) code = ids_parse(self, &ids, o.ids);
    if (code == CLI_OK) code = load_model(&l, &o.model, NULL, false);
    if (code == CLI_OK && o.text) code = ids_of_text(&ids, l.model, o.text, strlen(o.text), MOTE_TOK_SPECIAL | MOTE_TOK_BOS);
    if (code == CLI_OK && ids.n == 0) code = cli_usage(self, "there are no tokens");
    if (code == CLI_OK) code = compute(&l, &o, &ids);
    load_close(&l);
    free(ids.p);
    return cli_done(code);
}
