/* cmd_quantize.c: a model in smaller number formats. Arguments as llama-quantize's. */
#include "calibration.h"
#include "commands.h"
#include "common.h"
#include "models.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct quantize_options {
    const char *output_type, *embedding_type;
    cli_list tensor_types, include, exclude;
    const char *imatrix, *method, *target_size, *sensitivity;
    double target_bpw;
    calibration_flags cal;
    int64_t threads;
    bool pure, dry_run, leave_output, allow_requantize, json, quiet, types, no_smoke;
};

const cli_option quantize_options[] = {
    OPT_LIST(struct quantize_options, tensor_types, "tensor-type", NULL, "REGEX=TYPE", "number format of the tensors whose name matches; the first that matches counts"),
    OPT_STR(struct quantize_options, output_type, "output-tensor-type", NULL, "TYPE", "number format of output.weight"),
    OPT_STR(struct quantize_options, embedding_type, "token-embedding-type", NULL, "TYPE", "number format of the token embeddings, or of up to four parts of them: 8192=Q4_96,16384=Q3_96,Q2_96 (the first 8192 tokens, the next, the rest)"),
    OPT_STR(struct quantize_options, imatrix, "imatrix", NULL, "FILE", "importance matrix (mote imatrix, llama-imatrix): which columns matter"),
    OPT_LIST(struct quantize_options, include, "include-weights", NULL, "NAME", "use the matrix only for tensors whose name contains NAME"),
    OPT_LIST(struct quantize_options, exclude, "exclude-weights", NULL, "NAME", "do not use the matrix for tensors whose name contains NAME"),
    OPT_STR(struct quantize_options, target_size, "target-size", NULL, "SIZE", "in place of TYPE: the best mixture of formats in a file of this size (40MB, 1.5GB, 38MiB)"),
    OPT_NUM(struct quantize_options, target_bpw, "target-bpw", NULL, "X", 0, 32, "in place of TYPE: the best mixture at X bits per weight over all tensors"),
    OPT_STR(struct quantize_options, sensitivity, "sensitivity", NULL, "FILE", "keep here what a budget measures: the next budget for this model costs little"),
    OPT_FLAG(struct quantize_options, pure, "pure", NULL, "one format for all tensors, no mixture"),
    OPT_FLAG(struct quantize_options, leave_output, "leave-output-tensor", NULL, "leave output.weight as it is"),
    OPT_FLAG(struct quantize_options, allow_requantize, "allow-requantize", NULL, "also from formats that are quantized already, which costs quality"),
    OPT_FLAG(struct quantize_options, dry_run, "dry-run", NULL, "decide and report, write nothing"),
    OPT_INT(struct quantize_options, threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),
    SMOKE_OPTION(struct quantize_options, no_smoke),
    OPT_FLAG(struct quantize_options, types, "types", NULL, "list the types"),
    OPT_FLAG(struct quantize_options, quiet, "quiet", "q", "print the totals and the fallbacks only"),
    OPT_FLAG(struct quantize_options, json, "json", NULL, "print the report as JSON"),
    OPT_STR(struct quantize_options, method, "method", NULL, "NAME", "calibrated rounding: gptq, awq, awq+gptq, smoothquant, smoothquant+gptq, autoround, block-qat"),
    CALIBRATION_OPTIONS(struct quantize_options, cal),
    CALIBRATION_STEPS(struct quantize_options, cal),
    {0},
};
const cli_example quantize_examples[] = {
    {"mote quantize f16.gguf q4.gguf Q4_K_M", "to about 4.8 bits per weight"},
    {"mote quantize --dry-run f16.gguf Q4_K_M", "what would become of each tensor, and the real size"},
    {"mote quantize --tensor-type 'ffn_down=q6_K' f16.gguf out.gguf Q4_K_M", "with one kind of tensor kept better"},
    {"mote quantize --imatrix imatrix.gguf f16.gguf out.gguf IQ2_XS", "with what mote imatrix measured; below 3 bits it is needed"},
    {"mote quantize --target-size 40MB --imatrix imatrix.gguf f16.gguf out.gguf", "as good as 40 MB can be: each tensor's sensitivity is measured"},
    {"mote quantize --method gptq --calibration text.txt f16.gguf out.gguf Q4_0", "each rounding error is made up for by the weights that are still open"},
    {"mote quantize --method awq+gptq --calibration text.txt f16.gguf out.gguf Q3_K_S", "columns with large activations scaled up first"},
    {"mote quantize --types", "what TYPE may be"},
    {0},
};

static bool on_tensor(void *ctx, const mote_quantized_tensor *t, size_t done, size_t n_tensors) {
    (void)t;
    cli_progress_show(ctx, (double)done, (double)n_tensors, "tensors");
    return true;
}

static int list_types(void) {
    const char *about;
    for (size_t i = 0;; i++) {
        const char *name = mote_quantize_type(i, &about);
        if (!name) return cli_done(CLI_OK);
        (void)printf("%-10s %s\n", name, about);
    }
}

/* "40MB", "1.5GB", "38MiB", "40000000". */
static bool parse_size(const char *s, uint64_t *bytes) {
    static const struct {
        const char *unit;
        double by;
    } units[] = {{"", 1}, {"B", 1}, {"K", 1e3}, {"KB", 1e3}, {"M", 1e6}, {"MB", 1e6}, {"G", 1e9}, {"GB", 1e9},
                 {"KIB", 1024}, {"MIB", 1048576}, {"GIB", 1073741824}};
    char *end;
    double v = strtod(s, &end);
    while (*end == ' ') end++;
    for (size_t i = 0; end != s && v > 0 && v < 1e15 && i < sizeof units / sizeof *units; i++) {
        if (strcasecmp(end, units[i].unit) != 0) continue;
        *bytes = (uint64_t)(v * units[i].by);
        return *bytes > 0;
    }
    return false;
}

static bool is_number(const char *s) { return *s && strspn(s, "0123456789") == strlen(s); }

int cmd_quantize(const cli_command *self, int argc, char **argv) {
    struct quantize_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 4, argc, argv, &code)) return code;
    if (o.types) return list_types();
    if (o.method && (o.dry_run || o.imatrix)) return cli_usage(self, "--method goes neither with --dry-run nor with --imatrix (it measures by itself)");
    const bool budget = o.target_size || o.target_bpw > 0;
    if (budget && (o.method || o.pure || (o.target_size && o.target_bpw > 0))) return cli_usage(self, "a budget goes with neither --method nor --pure, and is one of --target-size and --target-bpw");
    if (o.sensitivity && !budget) return cli_usage(self, "--sensitivity goes with --target-size or --target-bpw");
    if (!o.method && o.cal.text.n > (budget ? 1u : 0u)) return cli_usage(self, "--calibration needs a --method, or (one file) a budget");
    if (o.include.n && o.exclude.n) return cli_usage(self, "--include-weights or --exclude-weights, one of them");
    /* IN OUT TYPE [THREADS], or IN TYPE in a dry run */
    size_t n = args.n;
    if (n == 4 && is_number(args.v[3])) {
        o.threads = strtoll(args.v[3], NULL, 10);
        n = 3;
    }
    uint64_t bytes = 0;
    if (o.target_size && !parse_size(o.target_size, &bytes)) return cli_usage(self, "--target-size takes a size such as 40MB, not '%s'", o.target_size);
    if (budget ? n != 2 && !(n == 1 && o.dry_run) : !(n == 3 || (n == 2 && o.dry_run)))
        return budget ? cli_usage(self, "expected IN OUT, as in: mote quantize --target-size 40MB f16.gguf out.gguf") : cli_usage(self, "expected IN OUT TYPE, as in: mote quantize f16.gguf q4.gguf Q4_K_M");
    const char *type = budget ? NULL : args.v[n - 1], *out = n == (budget ? 2u : 3u) ? args.v[1] : NULL;
    mote_tensor_type overrides[CLI_LIST_MAX] = {{0}};
    char *in = models_resolve(args.v[0], &code);
    if (!in) return code;
    code = overrides_split(self, &o.tensor_types, overrides);
    if (code == CLI_OK) {
        mote_error err;
        mote_quantize_report report;
        cli_progress p = cli_progress_start("quantizing");
        mote_quantize_options q = {.type = type, .overrides = overrides, .n_overrides = o.tensor_types.n, .output_format = o.output_type,
            .token_embedding_format = o.embedding_type, .pure = o.pure, .dry_run = o.dry_run, .leave_output = o.leave_output,
            .allow_requantize = o.allow_requantize, .n_threads = (int)o.threads, .progress = on_tensor, .progress_ctx = &p,
            .imatrix = o.imatrix, .include_weights = o.include.v, .n_include_weights = o.include.n, .exclude_weights = o.exclude.v,
            .n_exclude_weights = o.exclude.n, .target_bytes = bytes, .target_bpw = o.target_bpw,
            .sensitivity = o.sensitivity, .calibration = budget && o.cal.text.n ? o.cal.text.v[0] : NULL};
        if (o.method) {
            mote_calibrate_options c = {.quantize = q};
            c.quantize.progress = NULL;
            cli_progress_end(&p);
            calibration_fill(&o.cal, &c);
            code = calibration_method(self, o.method, &c) ? calibration_run(in, out, NULL, &c, (calibration_say){.quiet = o.quiet, .json = o.json, .no_smoke = o.no_smoke}) : CLI_USAGE;
            goto out;
        }
        mote_status s = mote_quantize(in, out, &q, &report, &err);
        cli_progress_end(&p);
        if (s == MOTE_OK) {
            if (!o.json) quantize_report_print(&report, o.quiet, o.dry_run, out);
            json_t *j = o.json ? quantize_report_json(&report) : NULL, *smoke = smoke_result(out, in, (int)o.threads, o.no_smoke || o.dry_run, o.json);
            if (j && smoke) (void)json_object_set(j, "smoke", smoke);
            json_decref(smoke);
            code = o.json ? cli_print_json(j) : cli_done(CLI_OK);
            mote_quantize_report_free(&report);
        } else code = cli_fail(&err);
    }
out:
    overrides_free(overrides, o.tensor_types.n);
    free(in);
    return code;
}
