/* cmd_distill.c: a student learns from a teacher; a model learns to live with the format it is packed in. */
#include "calibration.h"
#include "commands.h"
#include "models.h"
#include "mote/distill.h"
#include "smoke.h"
#include "train_flags.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct distill_options {
    train_flags train;
    const char *model, *teacher, *after, *out, *out_type, *loss, *cache, *write_cache, *select, *layer_map;
    const char *qat, *qat_output, *qat_embedding, *qat_k, *qat_v;
    cli_list data, qat_types;
    int64_t relation_layer, top_k, pool, select_every, ahead, prompt;
    int64_t slot_steps, qat_state_bits;
    const char *qat_state;
    double slot_seconds;
    double held_out, temperature, beta, on_policy, generate, sample_temperature, keep, scale_lr;
    bool whole_chats, align, pure, only_scales, fixed_scales, activations, no_smoke;
};

const cli_option distill_options[] = {
    OPT_STR(struct distill_options, model, "model", "m", "STUDENT", "the model that learns; it is not changed"),
    OPT_STR(struct distill_options, teacher, "teacher", NULL, "MODEL", "the model it learns from (with --qat: the student itself before rounding)"),
    OPT_STR(struct distill_options, after, "after", NULL, "MODEL.gguf", "begin with the unrounded weights of the run that made this model, whose folder MODEL.gguf.run is still there"),
    OPT_STR(struct distill_options, out, "output", "o", "FILE.gguf", "the model to write"),
    OPT_STR(struct distill_options, out_type, "output-type", NULL, "TYPE", "number format of its matrices without --qat (default: floats stay as they are, others become bf16)"),
    OPT_LIST(struct distill_options, data, "data", "f", "FILE[:WEIGHT]", "text, or JSONL with \"text\" or chats, of which the assistant's words count; may be given often, with shares of the tokens"),
    OPT_FLAG(struct distill_options, whole_chats, "whole-chats", NULL, "of chats all words count, and the template's own tokens"),
    OPT_STR(struct distill_options, loss, "loss", NULL, "LIST", "NAME=WEIGHT@FROM-UNTIL,… of ce, kl, rkl, jsd, uld, gold, span, hidden, cosine, attn, ffn, relation; FROM and UNTIL are shares of the run (default kl)"),
    OPT_NUM(struct distill_options, temperature, "temperature", NULL, "X", 0, 1000, "of the distributions that are compared (0: 1)"),
    OPT_NUM(struct distill_options, beta, "beta", NULL, "X", 0, 1, "of jsd (0: 0.5)"),
    OPT_INT(struct distill_options, relation_layer, "relation-layer", NULL, "N", 0, 100000, "the student's layer whose relations are compared, from 1 (0: five sixths of the way up)"),
    OPT_STR(struct distill_options, layer_map, "map", NULL, "S:T,…", "the student's layers and the teacher's they are compared with, from 1 (default: those in the same place)"),
    OPT_FLAG(struct distill_options, align, "align", NULL, "the vocabularies differ: compare where both have a border at the same byte"),
    OPT_NUM(struct distill_options, on_policy, "on-policy", NULL, "X", 0, 1, "share of the steps whose text the student itself makes up"),
    OPT_INT(struct distill_options, ahead, "on-policy-ahead", NULL, "N", 0, 10000, "such steps that are written at once, from the same weights (0: 4)"),
    OPT_NUM(struct distill_options, generate, "generate", NULL, "N", 0, 1e12, "tokens that the teacher makes up, to learn from in place of the data (which give the beginnings)"),
    OPT_NUM(struct distill_options, sample_temperature, "sample-temperature", NULL, "X", 0, 100, "of what both make up (0: 1)"),
    OPT_INT(struct distill_options, prompt, "prompt-tokens", NULL, "N", 0, 1 << 20, "of a text, to go on from (0: a quarter of the row)"),
    OPT_STR(struct distill_options, write_cache, "write-cache", NULL, "FILE", "write the teacher's likeliest tokens for the data, and train nothing"),
    OPT_STR(struct distill_options, cache, "cache", NULL, "FILE", "learn from such a file, without teacher and data"),
    OPT_INT(struct distill_options, top_k, "top-k", NULL, "N", 0, 1024, "likeliest tokens in it (0: 64)"),
    OPT_CHOICE(struct distill_options, select, "select", NULL, "loss|diverse|both|active|random", "learn from the examples that teach most alone"),
    OPT_NUM(struct distill_options, keep, "select-keep", NULL, "X", 0, 1, "share of the examples that --select keeps (0: 0.3)"),
    OPT_INT(struct distill_options, pool, "select-pool", NULL, "N", 0, 1 << 30, "examples that --select looks at (0: 2000)"),
    OPT_INT(struct distill_options, select_every, "select-every", NULL, "N", 0, 1000000000, "active: steps after which it chooses anew (0: 50)"),
    OPT_NUM(struct distill_options, held_out, "held-out", NULL, "X", -1, 0.9, "share of the data's items that is held out (0: 0.01; below 0: none)"),
    OPT_STR(struct distill_options, qat, "qat", NULL, "TYPE", "train with the weights rounded as TYPE packs them (as for mote quantize), and write that"),
    OPT_FLAG(struct distill_options, pure, "pure", NULL, "qat: one format for all tensors, no mixture"),
    OPT_LIST(struct distill_options, qat_types, "tensor-type", NULL, "REGEX=TYPE", "qat: number format of the tensors whose name matches"),
    OPT_STR(struct distill_options, qat_output, "output-tensor-type", NULL, "TYPE", "qat: number format of output.weight"),
    OPT_STR(struct distill_options, qat_embedding, "token-embedding-type", NULL, "TYPE", "qat: number format of the token embeddings, or of up to four parts of them: 8192=Q4_96,16384=Q3_96,Q2_96 (the first 8192 tokens, the next, the rest)"),
    OPT_FLAG(struct distill_options, only_scales, "qat-scales", NULL, "qat: integers stay, scales and norms learn"),
    OPT_FLAG(struct distill_options, fixed_scales, "qat-fixed-scales", NULL, "qat: scales stay, weights learn"),
    OPT_NUM(struct distill_options, scale_lr, "qat-scale-lr", NULL, "X", 0, 1e6, "qat: the scales' learning rate as a multiple of the weights' (0: 10)"),
    OPT_STR(struct distill_options, qat_state, "state", NULL, "FILE", "qat: keep the output and this small file between slots, and no checkpoints; goes on where both are"),
    OPT_INT(struct distill_options, qat_state_bits, "state-place-bits", NULL, "N", 0, 8, "qat: bits of the state file for each weight's place in its cell: 4 to 8 (0: 6)"),
    OPT_INT(struct distill_options, slot_steps, "slot-steps", NULL, "N", 0, 1000000000, "qat: end this slot after N steps (with --state)"),
    OPT_NUM(struct distill_options, slot_seconds, "slot-seconds", NULL, "X", 0, 1e9, "qat: end this slot after X seconds (with --state)"),
    OPT_FLAG(struct distill_options, activations, "qat-activations", NULL, "qat: round activations to int8, too, as the engine does"),
    OPT_STR(struct distill_options, qat_k, "cache-type-k", "ctk", "TYPE", "qat: round keys as a cache of this type does"),
    OPT_STR(struct distill_options, qat_v, "cache-type-v", "ctv", "TYPE", "qat: round values as a cache of this type does"),
    SMOKE_OPTION(struct distill_options, no_smoke),
    TRAIN_OPTIONS(struct distill_options, train),
    {0},
};
const cli_example distill_examples[] = {
    {"mote distill --teacher large.gguf -m small.gguf -f text.txt --tokens 2e6 -o out.gguf", "the small one learns the large one's distributions"},
    {"mote distill -m f32.gguf --qat Q4_0 -f text.txt --steps 200 -o q4.gguf", "a model learns to live with 4 bits, taught by itself"},
    {"mote distill -m f32.gguf --qat Q2_0 -f text.txt --steps 90000 --state q2.state --slot-seconds 1500 -o q2.gguf", "a slot of 25 minutes of a long run; again: the next slot"},
    {"mote distill --teacher t.gguf -m s.gguf -f chats.jsonl --loss jsd --on-policy 0.5 -o out.gguf", "half of the time on what it says itself (GKD)"},
    {"mote distill --teacher t.gguf -m s.gguf -f text.txt --loss hidden@0-0.3,kl@0.3-1 -o out.gguf", "by stages"},
    {"mote distill --teacher t.gguf -f text.txt --tokens 1e6 --write-cache t.kd", "keep the teacher's likeliest tokens, …"},
    {"mote distill --cache t.kd -m s.gguf --epochs 2 -o out.gguf", "… and learn from them without it"},
    {"mote distill --teacher qwen.gguf -m smollm.gguf --align -f text.txt --loss kl=1,span=1,ce=0.5 -o out.gguf", "from a teacher with another vocabulary"},
    {0},
};

static json_t *number(double x) { return isnan(x) ? json_null() : json_real(x); }

static int print_report(const struct distill_options *o, const mote_distill_report *r, const char *student) {
    const char *out = o->write_cache ? o->write_cache : o->out;
    char took[32], size[32];
    if (o->train.json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:I, s:f, s:I, s:I, s:I, s:s, s:I, s:I, s:o*}", "output", out, "steps",
                                        (json_int_t)r->steps, "tokens", (json_int_t)r->tokens, "rows", (json_int_t)r->rows, "resumed_at", (json_int_t)r->resumed_at,
                                        "skipped", (json_int_t)r->skipped, "loss", number(r->loss), "divergence", number(r->divergence), "divergence_before",
                                        number(r->divergence_before), "ce", number(r->ce), "agree", number(r->agree), "seconds", r->seconds, "tokens_per_s",
                                        r->tokens_per_s, "machine_share", r->machine_share, "bytes", (json_int_t)r->bytes, "shared_vocab", r->shared_vocab,
                                        "selected", (json_int_t)r->selected, "looked_at", (json_int_t)r->looked_at, "look_tokens", (json_int_t)r->look_tokens,
                                        "curve", r->curve, "steps_in_all", (json_int_t)r->steps_in_all, "state_bytes", (json_int_t)r->state_bytes,
                                        "smoke", smoke_result(out, student, (int)o->train.threads, o->no_smoke || o->write_cache, true)));
    if (o->write_cache) {
        (void)printf("%s: what the teacher thinks of %" PRIu64 " tokens, %s\n", out, r->cached_tokens, cli_size(size, r->bytes));
        return cli_done(CLI_OK);
    }
    (void)printf("%s: %s, %" PRIu64 " steps, %.1f thousand tokens in %s\n", out, cli_size(size, r->bytes), r->steps, (double)r->tokens * 1e-3, train_duration(took, r->seconds));
    if (r->state_bytes) (void)printf("state: %s\n", cli_size(size, r->state_bytes));
    if (r->steps < r->steps_in_all) (void)printf("the slot ended at step %" PRIu64 " of %" PRIu64 "; the same command goes on\n", r->steps, r->steps_in_all);
    if (!isnan(r->divergence)) (void)printf("held out: divergence from the teacher %.4f", r->divergence);
    if (!isnan(r->divergence) && !isnan(r->divergence_before)) (void)printf(" (before: %.4f)", r->divergence_before);
    if (!isnan(r->agree)) (void)printf(", the same likeliest token %.1f %%", 100 * r->agree);
    if (!isnan(r->ce)) (void)printf("%scross-entropy %.4f", isnan(r->divergence) ? "held out: " : ", ", r->ce);
    if (*r->curve) (void)printf("\ncurve in %s", r->curve);
    (void)putchar('\n');
    json_decref(smoke_result(out, student, (int)o->train.threads, o->no_smoke, false));
    return cli_done(CLI_OK);
}

static int run(const cli_command *self, const struct distill_options *o, const char *student, const char *teacher, const mote_tensor_type *types,
               const mote_train_source *data) {
    mote_distill_options d = {.student = student, .teacher = teacher, .after = o->after, .out = o->out, .out_type = o->out_type, .data = data, .n_data = o->data.n, .whole_chats = o->whole_chats,
        .held_out = o->held_out, .loss = o->loss, .temperature = o->temperature, .beta = o->beta, .relation_layer = (int)o->relation_layer, .align = o->align, .layer_map = o->layer_map,
        .on_policy = o->on_policy, .on_policy_ahead = (size_t)o->ahead, .generate = o->generate, .sample_temperature = o->sample_temperature,
        .prompt_tokens = (size_t)o->prompt, .cache = o->cache, .write_cache = o->write_cache, .top_k = (size_t)o->top_k, .select = o->select, .keep = o->keep,
        .select_pool = (size_t)o->pool, .select_every = (uint64_t)o->select_every,
        .qat = {.type = o->qat, .overrides = types, .n_overrides = o->qat_types.n, .output_format = o->qat_output, .token_embedding_format = o->qat_embedding,
                .pure = o->pure, .only_scales = o->only_scales, .fixed_scales = o->fixed_scales, .scale_lr = o->scale_lr, .activations = o->activations, .state = o->qat_state,
                .state_bits = (int)o->qat_state_bits, .slot_steps = (uint64_t)o->slot_steps, .slot_seconds = o->slot_seconds,
                .type_k = o->qat_k, .type_v = o->qat_v}};
    if (!o->write_cache && !student) return cli_usage(self, "the student is missing: -m MODEL");
    if (!o->write_cache && !o->out) return cli_usage(self, "the output is missing: -o FILE.gguf");
    if (!o->cache && !o->data.n) return cli_usage(self, "data are missing: -f FILE (or --cache FILE)");
    if (!teacher && !o->cache && !o->qat) return cli_usage(self, "the teacher is missing: --teacher MODEL (or --cache FILE, or --qat TYPE)");
    int code = train_settings_of(&d.settings, &o->train);
    if (code != CLI_OK) return code;
    train_view view;
    mote_error err;
    mote_distill_report report = {0};
    d.callbacks = train_view_start(&view, &o->train);
    mote_status s = mote_distill(&d, &report, &err);
    train_view_end(&view);
    if (s != MOTE_OK) return cli_fail(&err);
    return report.finished ? print_report(o, &report, student) : CLI_OK;
}

int cmd_distill(const cli_command *self, int argc, char **argv) {
    struct distill_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    mote_tensor_type types[CLI_LIST_MAX] = {{0}};
    mote_train_source data[CLI_LIST_MAX] = {{0}};
    char *student = o.model ? models_resolve(o.model, &code) : NULL;
    if (o.model && !student) return code;
    char *teacher = o.teacher ? models_resolve(o.teacher, &code) : NULL;
    if (!o.teacher || teacher) {
        code = overrides_split(self, &o.qat_types, types);
        if (code == CLI_OK) code = train_sources_split(&o.data, data);
        if (code == CLI_OK) code = run(self, &o, student, teacher, types, data);
    }
    overrides_free(types, o.qat_types.n);
    train_sources_free(data, o.data.n);
    free(student);
    free(teacher);
    return code;
}
