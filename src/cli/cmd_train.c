/* cmd_train.c: a model from random weights, or trained on. */
#include "commands.h"
#include "models.h"
#include "train_flags.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct train_options {
    train_flags train;
    const char *recipe, *model, *tokenizer, *out, *out_type, *eval_data, *prompt, *arch, *order;
    cli_list data;
    int64_t depth, width, heads, kv_heads, ff, context, vocab, sample;
    double held_out, rope_base, layer_dropout, early_exit;
    bool untied;
};

const cli_option train_options[] = {
    OPT_STR(struct train_options, recipe, "recipe", NULL, "FILE.yaml", "a recipe; options given here stand before its values"),
    OPT_INT(struct train_options, depth, "depth", NULL, "N", 0, 1000, "the one dial of a new model: layers, from which width, heads, rate, batch and tokens follow"),
    OPT_STR(struct train_options, model, "model", "m", "MODEL", "go on from this model's weights in place of random ones"),
    OPT_LIST(struct train_options, data, "data", "f", "FILE[:WEIGHT]", "text, or JSONL with \"text\" or chats; may be given often, with shares of the tokens"),
    OPT_STR(struct train_options, out, "output", "o", "FILE.gguf", "the model to write"),
    OPT_STR(struct train_options, out_type, "output-type", NULL, "TYPE", "number format of its matrices: bf16, f16, f32, q8_0, … (default bf16; floats of -m stay as they are)"),
    OPT_STR(struct train_options, tokenizer, "tokenizer", NULL, "MODEL", "a new model's tokenizer: that of a model, or a tokenizer's GGUF (default: learnt from the data)"),
    OPT_STR(struct train_options, eval_data, "eval-data", NULL, "FILE", "held-out text (default: 1 % of the data's items)"),
    OPT_NUM(struct train_options, held_out, "held-out", NULL, "X", -1, 0.9, "share of the data's items that is held out (0: 0.01; below 0: none)"),
    OPT_CHOICE(struct train_options, order, "order", NULL, "shuffled|as-is|easy-first", "of the data; easy-first: as it is, in the first epoch (mote data --order makes such files)"),
    OPT_NUM(struct train_options, layer_dropout, "layer-dropout", NULL, "X", 0, 0.99, "LayerSkip: chance that the last layer is left out, less for those before it; 0.1 to 0.2 as a rule"),
    OPT_NUM(struct train_options, early_exit, "early-exit", NULL, "X", 0, 1, "LayerSkip: how much the model's head behind inner layers counts; 0.1 to 1 (then mote heads finds good exits)"),
    OPT_INT(struct train_options, sample, "sample", NULL, "N", 0, 4096, "let the model make up N tokens at each look at held-out data"),
    OPT_STR(struct train_options, prompt, "prompt", "p", "TEXT", "how that text begins"),
    OPT_CHOICE(struct train_options, arch, "arch", NULL, "llama|qwen3", "family of a new model"),
    OPT_INT(struct train_options, width, "width", NULL, "N", 0, 1 << 20, "embedding length of a new model (0: 64 per layer)"),
    OPT_INT(struct train_options, heads, "heads", NULL, "N", 0, 4096, "attention heads (0: width / 64)"),
    OPT_INT(struct train_options, kv_heads, "kv-heads", NULL, "N", 0, 4096, "heads of keys and values (0: half of them, from 4 on)"),
    OPT_INT(struct train_options, ff, "ff", NULL, "N", 0, 1 << 20, "feed-forward length (0: 8/3 of the width)"),
    OPT_INT(struct train_options, context, "context", NULL, "N", 0, 1 << 24, "context of a new model (0: the rows' length)"),
    OPT_INT(struct train_options, vocab, "vocab", NULL, "N", 0, 1 << 24, "tokens of a vocabulary that is learnt from the data (0: 4096)"),
    OPT_NUM(struct train_options, rope_base, "rope-base", NULL, "X", 0, 1e12, "base of a new model's rotations (0: 10000)"),
    OPT_FLAG(struct train_options, untied, "untied", NULL, "a new model gets a head of its own, apart from the embeddings"),
    TRAIN_OPTIONS(struct train_options, train),
    {0},
};
const cli_example train_examples[] = {
    {"mote train --depth 4 -f stories.txt -o stories.gguf", "a small model from scratch; run it: mote run -m stories.gguf -p 'Once upon a time'"},
    {"mote train --recipe recipes/story.yaml", "all that is said in a file"},
    {"mote train -m smollm2 -f notes.txt --epochs 2 -o notes.gguf", "go on with a model, on one's own texts"},
    {"mote train --depth 6 -f prose.txt:3 -f code.txt:1 --optimizer muon -o m.gguf", "a mixture, three to one, by Muon"},
    {"mpirun -n 2 mote train --depth 8 -f prose.txt -o m.gguf", "two processes share each step's rows"},
    {0},
};

static int print_report(const struct train_options *o, const char *out, const mote_train_report *r) {
    char took[32];
    if (o->train.json) {
        json_t *v = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:s}", "output", out, "steps", (json_int_t)r->steps, "tokens",
                              (json_int_t)r->tokens, "parameters", (json_int_t)r->n_params, "data_items", (json_int_t)r->data_items, "seconds",
                              r->seconds, "tokens_per_s", r->tokens_per_s, "machine_share", r->machine_share, "resumed_at",
                              (json_int_t)r->resumed_at, "skipped", (json_int_t)r->skipped, "curve", r->curve);
        if (v && !isnan(r->loss)) (void)json_object_set_new(v, "loss", json_real(r->loss));
        if (v && !isnan(r->eval_loss)) (void)json_object_set_new(v, "eval_loss", json_real(r->eval_loss));
        return cli_print_json(v);
    }
    (void)printf("%s: %.2f million weights, %" PRIu64 " steps, %.2f million tokens in %s\n", out, (double)r->n_params * 1e-6, r->steps,
                 (double)r->tokens * 1e-6, train_duration(took, r->seconds));
    (void)printf("loss %.4f", r->loss);
    if (!isnan(r->eval_loss)) (void)printf(", held out %.4f (perplexity %.2f)", r->eval_loss, exp(r->eval_loss));
    if (*r->curve) (void)printf("; curve in %s", r->curve);
    (void)putchar('\n');
    return cli_done(CLI_OK);
}

static int run(const cli_command *self, const struct train_options *o, mote_train_source *data, char *model) {
    mote_train_options t = {.recipe = o->recipe, .model = model, .tokenizer = o->tokenizer, .out = o->out, .out_type = o->out_type, .data = data,
        .n_data = o->data.n, .order = o->order, .eval_data = o->eval_data, .held_out = o->held_out, .layer_dropout = o->layer_dropout, .early_exit = o->early_exit, .sample_tokens = (size_t)o->sample, .sample_prompt = o->prompt,
        .shape = {.arch = o->arch, .depth = (size_t)o->depth, .width = (size_t)o->width, .n_head = (size_t)o->heads,
                  .n_head_kv = (size_t)o->kv_heads, .n_ff = (size_t)o->ff, .n_ctx = (size_t)o->context, .n_vocab = (size_t)o->vocab,
                  .untied = o->untied, .rope_base = o->rope_base}};
    if (!o->recipe && !o->model && !o->depth) return cli_usage(self, "a new model needs --depth N, or give -m MODEL, or a --recipe");
    if (!o->recipe && !o->data.n) return cli_usage(self, "data are missing: -f FILE");
    if (!o->recipe && !o->out) return cli_usage(self, "the output is missing: -o FILE.gguf");
    int code = train_settings_of(&t.settings, &o->train);
    if (code != CLI_OK) return code;
    train_view view;
    mote_error err;
    mote_train_report report = {0};
    t.callbacks = train_view_start(&view, &o->train);
    mote_status s = mote_train(&t, &report, &err);
    train_view_end(&view);
    if (s != MOTE_OK) return cli_fail(&err);
    return report.finished ? print_report(o, report.output, &report) : CLI_OK;
}

int cmd_train(const cli_command *self, int argc, char **argv) {
    struct train_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    mote_train_source data[CLI_LIST_MAX] = {{0}};
    char *model = o.model ? models_resolve(o.model, &code) : NULL;
    if (o.model && !model) return code;
    code = train_sources_split(&o.data, data);
    if (code == CLI_OK) code = run(self, &o, data, model);
    train_sources_free(data, o.data.n);
    free(model);
    return code;
}
