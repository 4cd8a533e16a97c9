/* cmd_finetune.c: teaches a model from examples or preferences. */
#include "commands.h"
#include "common.h"
#include "models.h"
#include "mote/finetune.h"
#include "train_flags.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct finetune_options {
    train_flags train;
    const char *model, *output, *method, *task, *template_file, *targets, *adapter, *forget, *probe;
    cli_list data, replay;
    int64_t rank;
    double alpha, replay_share, kl, replay_ce, beta, dp_noise, dp_epsilon, dp_clip, dp_delta, gate;
};

#define S struct finetune_options
const cli_option finetune_options[] = {
    OPT_STR(S, model, "model", "m", "MODEL", "GGUF file, Hugging Face folder or name (the default model when absent); it is not changed"),
    OPT_LIST(S, data, "data", "d", "FILE", "what is learned: text, or JSONL of texts, chats (loss on answers) or pairs; repeatable"),
    OPT_STR(S, output, "output", "o", "OUT", "an adapter: NAME.gguf, or a folder in PEFT's form; --method full: NAME.gguf, or a folder"),
    OPT_CHOICE(S, method, "method", NULL, "lora|rslora|dora|qlora|full", "qlora: weights stay quantized in memory; full: all weights (default lora)"),
    OPT_CHOICE(S, task, "task", NULL, "sft|dpo", "examples, or pairs of a chosen and a rejected answer (default: by the data)"),
    OPT_INT(S, rank, "lora-r", "r", "N", 0, 65536, "rank of the adapter (0: 16)"),
    OPT_NUM(S, alpha, "lora-alpha", NULL, "X", 0, 1e6, "its strength is alpha / rank (0: twice the rank)"),
    OPT_STR(S, targets, "target-modules", NULL, "A,B", "matrices: q_proj, attn_q, … (default all-linear)"),
    OPT_STR(S, adapter, "adapter", NULL, "FILE", "go on with this adapter"),
    OPT_LIST(S, replay, "replay", NULL, "FILE", "text or chats of what should not be forgotten, mixed into every step; repeatable"),
    OPT_NUM(S, replay_share, "replay-share", NULL, "X", 0, 0.99, "share of a step's rows (0: 0.25)"),
    OPT_NUM(S, kl, "kl", NULL, "X", -1, 1e6, "on replayed rows: factor of the divergence from the model as it was (0: 1; below 0: none)"),
    OPT_NUM(S, replay_ce, "replay-ce", NULL, "X", 0, 1e6, "on replayed rows: factor of the usual loss"),
    OPT_NUM(S, beta, "beta", NULL, "X", 0, 1e6, "dpo: the smaller, the further from the reference (0: 0.1)"),
    OPT_NUM(S, dp_noise, "dp-noise", NULL, "X", -1e6, 1e6, "differential privacy: noise in units of --dp-clip"),
    OPT_NUM(S, dp_epsilon, "dp-epsilon", NULL, "X", -1e6, 1e6, "… or as much noise as keeps the run within this epsilon"),
    OPT_NUM(S, dp_clip, "dp-clip", NULL, "X", -1e6, 1e6, "… length to which each example's gradient is cut (0: 1)"),
    OPT_NUM(S, dp_delta, "dp-delta", NULL, "X", -1, 1, "… delta (0: a tenth of 1 / examples)"),
    OPT_STR(S, forget, "forget", NULL, "TEXT", "print the perplexity on this text before and after"),
    OPT_NUM(S, gate, "gate", NULL, "PERCENT", 0, 1e6, "write nothing, exit 3, when that perplexity grows by more"),
    OPT_STR(S, probe, "probe", NULL, "FILE", "chats whose answers should be known afterwards (default: the data, up to 200 items)"),
    OPT_STR(S, template_file, "chat-template-file", NULL, "FILE", "a chat template in place of the model's"),
    TRAIN_OPTIONS(S, train),
    {0},
};
#undef S
const cli_example finetune_examples[] = {
    {"mote finetune -m model.gguf -d facts.jsonl -o facts.gguf", "a LoRA adapter of what the chats in facts.jsonl say"},
    {"mote run -m model.gguf --lora facts.gguf", "and the model with it"},
    {"mote finetune -d facts.jsonl --replay prose.txt --forget other.txt --gate 1 -o facts.gguf", "without forgetting: at most 1 % worse elsewhere, or no file"},
    {"mote finetune -m q4.gguf -d chats.jsonl --method qlora -r 32 -o peft-folder", "on quantized weights, into PEFT's form"},
    {"mote finetune -d pairs.jsonl --task dpo --beta 0.1 -o dpo.gguf", "preferences: {\"prompt\", \"chosen\", \"rejected\"}"},
    {"mote finetune -d private.jsonl --dp-epsilon 8 --steps 200 -o private.gguf", "with differential privacy"},
    {"mote finetune -m folder -d text.txt --method full -o new-folder", "all weights, from a Hugging Face folder to another"},
    {0},
};

static json_t *result_json(const mote_finetune_result *r, const char *output) {
    json_t *v = json_pack("{s:s?, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "output", output, "steps", (json_int_t)r->steps, "tokens", (json_int_t)r->tokens,
                          "trained", (json_int_t)r->n_trained, "parameters", (json_int_t)r->n_all, "items", (json_int_t)r->n_items, "loss", r->loss,
                          "seconds", r->seconds);
    bool ok = v != NULL;
    if (r->ppl_before > 0)
        ok = ok && json_object_set_new(v, "forget", json_pack("{s:f, s:f, s:f}", "ppl_before", r->ppl_before, "ppl_after", r->ppl_after, "percent",
                                                              100 * (r->ppl_after / r->ppl_before - 1))) == 0;
    if (r->n_probe)
        ok = ok && json_object_set_new(v, "known", json_pack("{s:I, s:I, s:I}", "before", (json_int_t)r->known_before, "after",
                                                             (json_int_t)r->known_after, "of", (json_int_t)r->n_probe)) == 0;
    if (r->preferred_after > 0 || r->preferred_before > 0)
        ok = ok && json_object_set_new(v, "preferred", json_pack("{s:f, s:f}", "before", r->preferred_before, "gained", r->preferred_after)) == 0;
    if (r->delta > 0)
        ok = ok && json_object_set_new(v, "privacy", json_pack("{s:f, s:f, s:f}", "epsilon", r->epsilon, "delta", r->delta, "cut", r->share_cut)) == 0;
    return ok ? v : NULL;
}

static void print_result(const mote_finetune_result *r) {
    char took[32];
    (void)printf("%zu of %zu parameters trained on %zu items, %" PRIu64 " steps in %s, loss %.4f\n", r->n_trained, r->n_all, r->n_items, r->steps,
                 train_duration(took, r->seconds), r->loss);
    if (r->n_probe) (void)printf("known: %zu of %zu answers, before %zu\n", r->known_after, r->n_probe, r->known_before);
    if (r->preferred_after > 0 || r->preferred_before > 0)
        (void)printf("preferences: the chosen answer was likelier in %.0f %% of the pairs; it gained on the other in %.0f %%\n",
                     100 * r->preferred_before, 100 * r->preferred_after);
    if (r->ppl_before > 0)
        (void)printf("forgotten: perplexity elsewhere %.4f, before %.4f (%+.2f %%)\n", r->ppl_after, r->ppl_before, 100 * (r->ppl_after / r->ppl_before - 1));
    if (r->delta > 0) (void)printf("privacy: epsilon %.4f at delta %.1e; %.0f %% of the gradients were cut\n", r->epsilon, r->delta, 100 * r->share_cut);
}

int cmd_finetune(const cli_command *self, int argc, char **argv) {
    struct finetune_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if (!o.data.n) return cli_usage(self, "what should it learn? -d FILE");
    if (!o.output) return cli_usage(self, "where to? -o OUT");
    mote_error err;
    mote_finetune_opts f = mote_finetune_opts_default();
    mote_finetune_result r = {.size = sizeof r};
    char *tmpl = NULL, *path = models_resolve(o.model, &code);
    if (!path) return code;
    code = train_settings_of(&f.train, &o.train);
    size_t n = 0;
    if (code == CLI_OK && o.template_file && !(tmpl = cli_read_file(o.template_file, 1 << 20, &n, &err))) code = cli_fail(&err);
    if (code == CLI_OK) {
        train_view view;
        f.model = path, f.out = o.output, f.method = o.method, f.task = o.task, f.template_text = tmpl;
        f.data = o.data.v, f.n_data = o.data.n, f.replay = o.replay.v, f.n_replay = o.replay.n;
        f.rank = (size_t)o.rank, f.alpha = o.alpha, f.targets = o.targets, f.adapter = o.adapter;
        f.replay_share = o.replay_share, f.kl = o.kl, f.replay_ce = o.replay_ce, f.beta = o.beta;
        f.dp_noise = o.dp_noise, f.dp_epsilon = o.dp_epsilon, f.dp_clip = o.dp_clip, f.dp_delta = o.dp_delta;
        f.forget = o.forget, f.gate = o.gate, f.probe = o.probe;
        f.on = train_view_start(&view, &o.train);
        mote_status s = mote_finetune(&f, &r, &err);
        train_view_end(&view);
        if (s == MOTE_OK && o.train.json) code = cli_print_json(result_json(&r, o.output));
        else if (s == MOTE_OK || s == MOTE_E_GATE) print_result(&r);
        if (s != MOTE_OK) code = cli_fail(&err);
        else if (!o.train.json) code = cli_done(CLI_OK);
    }
    free(tmpl);
    free(path);
    return code;
}
