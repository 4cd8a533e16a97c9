/* cmd_merge.c: adapters into a model, or two models into one. */
#include "calibration.h"
#include "commands.h"
#include "common.h"
#include "models.h"
#include "mote/merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct merge_options {
    const char *model, *output, *with, *method, *base, *type, *imatrix;
    cli_list lora, lora_scaled;
    double weight, density;
    calibration_flags cal;
    int64_t threads;
    bool json, no_smoke;
};

#define S struct merge_options
const cli_option merge_options[] = {
    OPT_STR(S, model, "model", "m", "MODEL", "GGUF file, Hugging Face folder or name (the default model when absent); it is not changed"),
    OPT_STR(S, output, "output", "o", "OUT.gguf", "the merged model"),
    OPT_LIST(S, lora, "lora", NULL, "FILE[=X]", "an adapter (GGUF, or a folder in PEFT's form), X times as strong; repeatable"),
    OPT_LIST(S, lora_scaled, "lora-scaled", NULL, "FILE:X", "the same, as llama.cpp writes it"),
    OPT_STR(S, with, "with", NULL, "MODEL", "another model of the same architecture, in place of adapters"),
    OPT_STR(S, method, "method", NULL, "NAME", "with --lora: how what has changed is rounded into its format again: nearest, gptq, awq, awq+gptq, autoround, block-qat, … as in "
                                              "mote quantize (default: weight by weight, without text); with --with: linear, slerp, ties or dare (default slerp)"),
    OPT_NUM(S, weight, "weight", NULL, "X", 0, 1, "how much of --with (0: 0.5)"),
    OPT_STR(S, base, "base", NULL, "MODEL", "ties, dare: the model that both come from"),
    OPT_NUM(S, density, "density", NULL, "X", 0, 1, "ties: share of the changes that is kept; dare: … drawn (0: 0.5)"),
    OPT_STR(S, type, "type", NULL, "FORMAT", "number format of the matrices that change: q8_0, f16, … same: each one's own (default, with adapters and without a method: its own where 90 % of the change survives, else q8_0)"),
    OPT_STR(S, imatrix, "imatrix", NULL, "FILE", "importance matrix, for matrices that are quantized again"),
    CALIBRATION_OPTIONS(S, cal),
    CALIBRATION_STEPS(S, cal),
    OPT_INT(S, threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),
    SMOKE_OPTION(S, no_smoke),
    OPT_FLAG(S, json, "json", NULL, "print JSON"),
    {0},
};
#undef S
const cli_example merge_examples[] = {
    {"mote merge -m model.gguf --lora facts.gguf -o merged.gguf", "what a tensor's own number format would round away gets a wider one"},
    {"mote merge -m q4.gguf --lora facts.gguf --method gptq -o merged.gguf", "each rounding error is made up for by the weights that are still open"},
    {"mote merge -m q4.gguf --lora facts.gguf --type same -o merged.gguf", "every matrix in the format it had, and how much of the tune is left"},
    {"mote merge -m a.gguf --with b.gguf --method slerp --weight 0.3 -o ab.gguf", "30 % of the way from a to b"},
    {"mote merge -m a.gguf --with b.gguf --base c.gguf --method ties -o ab.gguf", "what both learned since c"},
    {0},
};

static json_t *number(double v) { return isnan(v) ? json_null() : json_real(v); }

static int report(const struct merge_options *o, const mote_merge_result *r, const char *from) {
    if (o->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:s, s:o, s:o, s:{s:s, s:f}, s:o*}", "output", o->output, "changed", (json_int_t)r->n_changed,
                                        "tensors", (json_int_t)r->n_tensors, "widened", (json_int_t)r->n_widened, "formats", r->formats, "survived", number(r->survived), "error", number(r->error),
                                        "worst", "tensor", r->worst_name, "error", r->worst, "smoke", smoke_result(o->output, from, (int)o->threads, o->no_smoke, true)));
    bool text = o->method && !o->with;
    (void)printf("%zu of %zu tensors changed, written in %s\n", r->n_changed, r->n_tensors, r->formats);
    if (r->n_widened)
        (void)printf("%zu of them in a wider format than before, which would have rounded more than a tenth of the change away; --type same keeps it, and "
                     "--method gptq rounds with feedback\n", r->n_widened);
    if (isnan(r->error)) (void)printf("columns were scaled as well: how much of the change is in the file cannot be told weight by weight\n");
    else (void)printf("of the change %.1f %% is in the %s, with an error of %.1f %% of its size (worst: %s, %.1f %%)\n", 100 * r->survived, text ? "outputs" : "weights", 100 * r->error,
                 r->worst_name, 100 * r->worst);
    if (r->survived < 0.9 && !text)
        cli_say("the number formats round much of the change away: --method gptq rounds with feedback; or keep the adapter beside the model (--lora), or "
                "take --type q8_0 or f16");
    json_decref(smoke_result(o->output, from, (int)o->threads, o->no_smoke, false));
    return cli_done(CLI_OK);
}

int cmd_merge(const cli_command *self, int argc, char **argv) {
    struct merge_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if (!o.output) return cli_usage(self, "where to? -o OUT.gguf");
    if (!o.with && !o.lora.n && !o.lora_scaled.n) return cli_usage(self, "what is merged? --lora FILE, or --with MODEL");
    mote_error err;
    mote_merge_opts m = mote_merge_opts_default();
    mote_merge_result r = {.size = sizeof r};
    mote_adapter adapters[2 * CLI_LIST_MAX];
    mote_calibrate_options c = {.quantize.n_threads = (int)o.threads};
    cli_progress shown = cli_progress_start("merging");
    calibration_fill(&o.cal, &c);
    if (o.method && !o.with && !calibration_method(self, o.method, &c)) return CLI_USAGE;
    c.layer_done = calibration_layer, c.layer_ctx = &shown;
    char *path = models_resolve(o.model, &code);
    if (!path) return code;
    code = read_adapters(adapters, &m.n_adapters, &o.lora, false);
    if (code == CLI_OK) code = read_adapters(adapters, &m.n_adapters, &o.lora_scaled, true);
    if (code == CLI_OK) {
        m.model = path, m.out = o.output, m.adapters = adapters, m.with = o.with, m.method = o.with ? o.method : NULL, m.weight = o.weight, m.base = o.base;
        m.density = o.density, m.seed = c.seed, m.type = o.type, m.imatrix = o.imatrix;
        if (o.method && !o.with) m.calibrate = &c;
        mote_status s = mote_merge(&m, &r, &err);
        cli_progress_end(&shown);
        code = s == MOTE_OK ? report(&o, &r, path) : cli_fail(&err);
    }
    for (size_t i = 0; i < m.n_adapters; i++) free((void *)(uintptr_t)adapters[i].path);
    free(path);
    return code;
}
