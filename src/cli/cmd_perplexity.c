/* cmd_perplexity.c: how well a model predicts a text, by the method of llama-perplexity. */
#include "commands.h"
#include "common.h"

#include <stdlib.h>
#include <string.h>

struct perplexity_options {
    model_flags model;
    session_flags session;
    const char *file, *base;
    int64_t chunks;
    bool compare, special, json;
};

const cli_option perplexity_options[] = {
    OPT_STR(struct perplexity_options, file, "file", "f", "TEXT", "the text (- for standard input)"),
    OPT_INT(struct perplexity_options, chunks, "chunks", NULL, "N", 0, 1 << 30, "score the first N windows (0: all)"),
    OPT_STR(struct perplexity_options, base, "kl-divergence-base", NULL, "FILE", "write the log-probabilities here, to compare another model with them"),
    OPT_FLAG(struct perplexity_options, compare, "kl-divergence", NULL, "compare with the log-probabilities in --kl-divergence-base"),
    OPT_FLAG(struct perplexity_options, special, "special", NULL, "control tokens written in the text are those tokens (a chat: mote template)"),
    OPT_FLAG(struct perplexity_options, json, "json", NULL, "print JSON"),
    MODEL_OPTIONS(struct perplexity_options, model),
    SESSION_OPTIONS(struct perplexity_options, session),
    {0},
};
const cli_example perplexity_examples[] = {
    {"mote perplexity -m model.gguf -f wiki.test.raw -c 512 --chunks 60", "ends in PPL = x +/- y"},
    {"mote perplexity -m f32.gguf -f text --kl-divergence-base base.bin", "keep the distributions of a reference"},
    {"mote perplexity -m q4.gguf -f text --kl-divergence-base base.bin --kl-divergence", "and see how far another file is from it"},
    {0},
};

#define TEXT_MAX ((size_t)1 << 30)
#define CTX_DEFAULT 512

static int on_chunk(void *ctx, size_t done, size_t total, double ppl) {
    (void)ppl;
    cli_progress_show(ctx, (double)done, (double)total, "windows");
    return 0;
}

static int print_result(const loaded *l, const struct perplexity_options *o, const mote_ppl_result *r) {
    if (o->json) {
        json_t *v = json_pack("{s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "ppl", r->ppl, "ppl_error", r->ppl_error, "nll", r->nll, "bits_per_byte", r->bits_per_byte, "chunks",
                              (json_int_t)r->n_chunks, "scored", (json_int_t)r->n_scored, "tokens", (json_int_t)r->n_tokens);
        if (v && o->compare)
            (void)json_object_update_new(v, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "kld_mean", r->kld_mean, "kld_error",
                                                      r->kld_error, "kld_median", r->kld_median, "kld_p99", r->kld_p99, "kld_max",
                                                      r->kld_max, "base_ppl", r->base_ppl, "same_top", r->same_top, "rms_dp", r->rms_dp));
        json_t *exits = exits_json(l);
        if (v && exits) (void)json_object_set_new(v, "exits", exits);
        return cli_print_json(v);
    }
    (void)printf("%zu tokens, %zu windows, %zu scored; %.4f bits per byte\n", r->n_tokens, r->n_chunks, r->n_scored, r->bits_per_byte);
    if (o->compare)
        (void)printf("KLD mean %.6f +/- %.6f  median %.6f  99 %% %.6f  max %.6f\nsame top token %.2f %%  RMS of the difference in probability "
                     "%.3f %%\nPPL of the base = %.4f\n",
                     r->kld_mean, r->kld_error, r->kld_median, r->kld_p99, r->kld_max, 100 * r->same_top, 100 * r->rms_dp, r->base_ppl);
    exits_say(l);
    (void)printf("PPL = %.4f +/- %.5f\n", r->ppl, r->ppl_error);
    return cli_done(CLI_OK);
}

int cmd_perplexity(const cli_command *self, int argc, char **argv) {
    struct perplexity_options o = {.session = {.ctx = CTX_DEFAULT}};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if (!o.file) return cli_usage(self, "which text? -f FILE");
    if (o.compare && !o.base) return cli_usage(self, "--kl-divergence needs --kl-divergence-base FILE");
    mote_error err;
    size_t n;
    char *text = cli_read_file(o.file, TEXT_MAX, &n, &err);
    if (!text) return cli_fail(&err);
    loaded l = {0};
    code = load_model(&l, &o.model, NULL, false);
    if (code == CLI_OK) code = load_session(&l, &o.session, NULL, o.model.verbose);
    if (code == CLI_OK) {
        cli_progress p = cli_progress_start("perplexity");
        mote_ppl_opts po = mote_ppl_opts_default();
        mote_ppl_result r = {.size = sizeof r};
        if (o.session.ctx) po.n_ctx = (size_t)o.session.ctx;
        po.n_chunks = (size_t)o.chunks;
        po.special = o.special;
        po.on_chunk = on_chunk;
        po.ctx = &p;
        if (o.compare) po.compare_logits = o.base;
        else po.save_logits = o.base;
        mote_status s = mote_perplexity(l.session, text, n, &po, &r, &err);
        cli_progress_end(&p);
        code = s == MOTE_OK ? print_result(&l, &o, &r) : cli_fail(&err);
    }
    load_close(&l);
    free(text);
    return code;
}
