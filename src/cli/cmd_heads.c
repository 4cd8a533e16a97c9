/* cmd_heads.c: early exits and Medusa heads for a model, trained beside it. */
#include "commands.h"
#include "common.h"
#include "models.h"
#include "mote/train_heads.h"
#include "train_flags.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct heads_options {
    train_flags train;
    const char *model, *output, *type, *exits;
    cli_list data;
    int64_t medusa, likely;
    double fit, text, held_out, generate, sample_temperature;
    bool untrained;
};

#define S struct heads_options
const cli_option heads_options[] = {
    OPT_STR(S, model, "model", "m", "MODEL", "in place of the argument"),
    OPT_LIST(S, data, "data", "f", "FILE", "text, or JSONL of texts or chats; repeatable. The nearer to what the model will say, the better the heads"),
    OPT_STR(S, output, "output", "o", "OUT.gguf", "the heads file"),
    OPT_STR(S, type, "output-type", NULL, "TYPE", "number format of the heads' matrices: f16, q8_0, f32, … (default f16)"),
    OPT_STR(S, exits, "exits", NULL, "L,L|auto", "early exits behind so many layers; auto: five sixths and nine tenths of the way (default auto, without --medusa)"),
    OPT_INT(S, medusa, "medusa", NULL, "N", 0, 16, "heads that guess the 1st … Nth token behind the one that was drawn (default 3, without --exits)"),
    OPT_INT(S, likely, "likely", NULL, "N", -1, 1 << 24, "Medusa heads guess among so many tokens, the most frequent of the data (0: 4096; -1: the first eighth of the vocabulary)"),
    OPT_NUM(S, fit, "fit", NULL, "N", -1, 1e9, "tokens that the heads are fitted on by least squares (0: 60 thousand, or the data once; below 0: none)"),
    OPT_NUM(S, text, "text-share", NULL, "X", 0, 1, "how much Medusa heads learn the text's own tokens, the rest being what the model says there (default 0)"),
    OPT_FLAG(S, untrained, "untrained", NULL, "write the heads as they begin: the model's own head on each stream"),
    OPT_NUM(S, generate, "generate", NULL, "N", 0, 1e12, "tokens that the model itself makes up, to learn from in place of the data (which give the beginnings)"),
    OPT_NUM(S, sample_temperature, "sample-temperature", NULL, "X", 0, 100, "of those (0: 1)"),
    OPT_NUM(S, held_out, "held-out", NULL, "X", -1, 0.9, "share of the data's items that is held out (0: 0.01; below 0: none)"),
    TRAIN_OPTIONS(S, train),
    {0},
};
#undef S
const cli_example heads_examples[] = {
    {"mote heads model.gguf -f text.txt -o heads.gguf", "two early exits and three Medusa heads, fitted on 60 thousand tokens"},
    {"mote heads model.gguf -f text.txt --exits 20,25 --tokens 1e6 -o exits.gguf", "early exits behind layers 20 and 25, fitted, and then trained by gradients"},
    {"mote heads model.gguf -f chats.jsonl --medusa 4 --output-type q8_0 -o medusa.gguf", "four Medusa heads, for what an assistant says"},
    {"mote heads model.gguf -f text.txt --medusa 3 --generate 2e5 -o medusa.gguf", "on text that the model makes up itself"},
    {0},
};

static json_t *number(double x) { return isnan(x) ? json_null() : json_real(x); }

static json_t *report_json(const mote_train_heads_report *r, const char *output) {
    json_t *heads = json_array(), *v;
    for (size_t k = 0; k < r->n; k++) {
        const mote_head_figures *f = &r->heads[k];
        (void)json_array_append_new(heads, json_pack("{s:I, s:I, s:o, s:o, s:o, s:o}", "layer", (json_int_t)f->layer, "offset", (json_int_t)f->offset, "agree",
                                                     number(f->agree), "agree_before", number(f->agree_before), "divergence", number(f->divergence),
                                                     "divergence_before", number(f->divergence_before)));
    }
    v = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:I, s:o}", "output", output, "steps", (json_int_t)r->steps, "tokens", (json_int_t)r->tokens,
                  "resumed_at", (json_int_t)r->resumed_at, "skipped", (json_int_t)r->skipped, "trained", (json_int_t)r->n_trained, "loss", number(r->loss), "seconds",
                  r->seconds, "tokens_per_s", r->tokens_per_s, "bytes", (json_int_t)r->bytes, "heads", heads);
    return v;
}

static void print_report(const mote_train_heads_report *r, const char *output) {
    char took[32], size[32];
    (void)printf("%s: %zu heads, %s, %" PRIu64 " steps, %.1f thousand tokens in %s\n", output, r->n, cli_size(size, r->bytes), r->steps, (double)r->tokens * 1e-3,
                 train_duration(took, r->seconds));
    for (size_t k = 0; k < r->n; k++) {
        const mote_head_figures *f = &r->heads[k];
        if (f->offset) (void)printf("%zu further on:    ", f->offset);
        else (void)printf("behind layer %zu: ", f->layer);
        if (isnan(f->agree)) (void)printf("not measured\n");
        else
            (void)printf("the model's likeliest token %.1f %% (before %.1f %%), divergence %.3f (before %.3f)\n", 100 * f->agree, 100 * f->agree_before,
                         f->divergence, f->divergence_before);
    }
}

int cmd_heads(const cli_command *self, int argc, char **argv) {
    struct heads_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 1, argc, argv, &code)) return code;
    if (args.n && o.model) return cli_usage(self, "the model is given twice: '%s' and '%s'", args.v[0], o.model);
    if (!o.data.n && !o.untrained) return cli_usage(self, "what should the heads learn from? -f FILE");
    if (!o.output) return cli_usage(self, "where to? -o OUT.gguf");
    mote_error err;
    mote_train_heads_opts h = mote_train_heads_opts_default();
    mote_train_heads_report r = {.size = sizeof r};
    char *path = models_resolve(args.n ? args.v[0] : o.model, &code);
    if (!path) return code;
    code = train_settings_of(&h.train, &o.train);
    if (code == CLI_OK) {
        train_view view;
        h.model = path, h.out = o.output, h.out_type = o.type, h.data = o.data.v, h.n_data = o.data.n;
        h.exits = o.exits, h.medusa = (size_t)o.medusa, h.fit = o.fit, h.text = o.text, h.untrained = o.untrained;
        h.likely = o.likely < 0 ? SIZE_MAX : (size_t)o.likely;
        h.generate = o.generate, h.sample_temperature = o.sample_temperature, h.held_out = o.held_out;
        h.on = train_view_start(&view, &o.train);
        mote_status s = mote_train_heads(&h, &r, &err);
        train_view_end(&view);
        if (s != MOTE_OK) code = cli_fail(&err);
        else if (!r.finished) code = CLI_OK;
        else if (o.train.json) code = cli_print_json(report_json(&r, o.output));
        else {
            print_report(&r, o.output);
            code = cli_done(CLI_OK);
        }
    }
    free(path);
    return code;
}
