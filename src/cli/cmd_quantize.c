/* cmd_quantize.c: a model in smaller number formats. Arguments as llama-quantize's. */
#include "commands.h"
#include "common.h"
#include "models.h"
#include "mote/compress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct quantize_options {
    const char *output_type, *embedding_type;
    cli_list tensor_types, include, exclude;
    const char *imatrix;
    int64_t threads;
    bool pure, dry_run, leave_output, allow_requantize, json, quiet, types;
};

const cli_option quantize_options[] = {
    OPT_LIST(struct quantize_options, tensor_types, "tensor-type", NULL, "REGEX=TYPE", "number format of the tensors whose name matches; the first that matches counts"),
    OPT_STR(struct quantize_options, output_type, "output-tensor-type", NULL, "TYPE", "number format of output.weight"),
    OPT_STR(struct quantize_options, embedding_type, "token-embedding-type", NULL, "TYPE", "number format of the token embeddings"),
    OPT_STR(struct quantize_options, imatrix, "imatrix", NULL, "FILE", "importance matrix (mote imatrix, llama-imatrix): which columns matter"),
    OPT_LIST(struct quantize_options, include, "include-weights", NULL, "NAME", "use the matrix only for tensors whose name contains NAME"),
    OPT_LIST(struct quantize_options, exclude, "exclude-weights", NULL, "NAME", "do not use the matrix for tensors whose name contains NAME"),
    OPT_FLAG(struct quantize_options, pure, "pure", NULL, "one format for all tensors, no mixture"),
    OPT_FLAG(struct quantize_options, leave_output, "leave-output-tensor", NULL, "leave output.weight as it is"),
    OPT_FLAG(struct quantize_options, allow_requantize, "allow-requantize", NULL, "also from formats that are quantized already, which costs quality"),
    OPT_FLAG(struct quantize_options, dry_run, "dry-run", NULL, "decide and report, write nothing"),
    OPT_INT(struct quantize_options, threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),
    OPT_FLAG(struct quantize_options, types, "types", NULL, "list the types"),
    OPT_FLAG(struct quantize_options, quiet, "quiet", "q", "print the totals and the fallbacks only"),
    OPT_FLAG(struct quantize_options, json, "json", NULL, "print the report as JSON"),
    {0},
};
const cli_example quantize_examples[] = {
    {"mote quantize f16.gguf q4.gguf Q4_K_M", "to about 4.8 bits per weight"},
    {"mote quantize --dry-run f16.gguf Q4_K_M", "what would become of each tensor, and the real size"},
    {"mote quantize --tensor-type 'ffn_down=q6_K' f16.gguf out.gguf Q4_K_M", "with one kind of tensor kept better"},
    {"mote quantize --imatrix imatrix.gguf f16.gguf out.gguf IQ2_XS", "with what mote imatrix measured; below 3 bits it is needed"},
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

static json_t *report_json(const mote_quantize_report *r) {
    json_t *tensors = json_array();
    for (size_t i = 0; i < r->n_tensors; i++) {
        const mote_quantized_tensor *t = &r->tensors[i];
        (void)json_array_append_new(tensors, json_pack("{s:s, s:s, s:s, s:s, s:s?, s:I, s:I, s:f}", "name", t->name, "from", t->from,
                                                       "wanted", t->wanted, "to", t->to, "why", t->why, "bytes_from", (json_int_t)t->bytes_from,
                                                       "bytes_to", (json_int_t)t->bytes_to, "nmse", t->nmse));
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:f, s:o}", "type", r->type, "weights", (json_int_t)r->n_weights,
                     "bytes_from", (json_int_t)r->bytes_from, "bytes_to", (json_int_t)r->bytes_to, "bits_per_weight_from", r->bpw_from,
                     "bits_per_weight", r->bpw_to, "nmse", r->nmse, "fallbacks", (json_int_t)r->n_fallbacks, "copied",
                     (json_int_t)r->n_copied, "seconds", r->seconds, "tensors", tensors);
}

static int print_report(const struct quantize_options *o, const mote_quantize_report *r, const char *out) {
    if (o->json) return cli_print_json(report_json(r));
    char from[32], to[32], shape[96];
    for (size_t i = 0; i < r->n_tensors; i++) {
        const mote_quantized_tensor *t = &r->tensors[i];
        if (o->quiet && !t->why) continue;
        shape[0] = 0;
        for (int d = 0; d < t->n_dims; d++) {
            size_t n = strlen(shape);
            (void)snprintf(shape + n, sizeof shape - n, "%s%" PRIu64, d ? " × " : "", t->ne[d]);
        }
        (void)printf("%-32s %-18s %7s -> %-7s %10s", t->name, shape, t->from, t->to, cli_size(to, t->bytes_to));
        if (t->nmse > 0) (void)printf("  NMSE %.2e", t->nmse);
        if (t->why) (void)printf("  wanted %s: %s", t->wanted, t->why);
        (void)putchar('\n');
    }
    (void)printf("\n%s: %s, %.2f bits per weight  ->  %s, %.2f bits per weight really\n", r->type, cli_size(from, r->bytes_from),
                 r->bpw_from, cli_size(to, r->bytes_to), r->bpw_to);
    (void)printf("%zu tensors, %zu copied as they are, %zu in another format than %s asks for\n", r->n_tensors, r->n_copied,
                 r->n_fallbacks, r->type);
    if (!o->dry_run) (void)printf("NMSE %.3e, %.1f s, written to %s\n", r->nmse, r->seconds, out);
    return cli_done(CLI_OK);
}

/* "REGEX=TYPE": the last equals sign divides. The strings are cut in place. */
static int split_overrides(const cli_command *self, const cli_list *l, mote_tensor_type *out) {
    for (size_t i = 0; i < l->n; i++) {
        char *text = strdup(l->v[i]), *equals = text ? strrchr(text, '=') : NULL;
        if (!equals || equals == text || !equals[1]) {
            free(text);
            return cli_usage(self, "--tensor-type takes REGEX=TYPE, not '%s'", l->v[i]);
        }
        *equals = 0;
        out[i] = (mote_tensor_type){text, equals + 1};
    }
    return CLI_OK;
}

static bool is_number(const char *s) { return *s && strspn(s, "0123456789") == strlen(s); }

int cmd_quantize(const cli_command *self, int argc, char **argv) {
    struct quantize_options o = {0};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 4, argc, argv, &code)) return code;
    if (o.types) return list_types();
    if (o.include.n && o.exclude.n) return cli_usage(self, "--include-weights or --exclude-weights, one of them");
    /* IN OUT TYPE [THREADS], or IN TYPE in a dry run */
    size_t n = args.n;
    if (n == 4 && is_number(args.v[3])) {
        o.threads = strtoll(args.v[3], NULL, 10);
        n = 3;
    }
    if (!(n == 3 || (n == 2 && o.dry_run))) return cli_usage(self, "expected IN OUT TYPE, as in: mote quantize f16.gguf q4.gguf Q4_K_M");
    const char *type = args.v[n - 1], *out = n == 3 ? args.v[1] : NULL;
    mote_tensor_type overrides[CLI_LIST_MAX] = {{0}};
    char *in = models_resolve(args.v[0], &code);
    if (!in) return code;
    code = split_overrides(self, &o.tensor_types, overrides);
    if (code == CLI_OK) {
        mote_error err;
        mote_quantize_report report;
        cli_progress p = cli_progress_start("quantizing");
        mote_quantize_options q = {.type = type, .overrides = overrides, .n_overrides = o.tensor_types.n, .output_format = o.output_type,
            .token_embedding_format = o.embedding_type, .pure = o.pure, .dry_run = o.dry_run, .leave_output = o.leave_output,
            .allow_requantize = o.allow_requantize, .n_threads = (int)o.threads, .progress = on_tensor, .progress_ctx = &p,
            .imatrix = o.imatrix, .include_weights = o.include.v, .n_include_weights = o.include.n, .exclude_weights = o.exclude.v,
            .n_exclude_weights = o.exclude.n};
        mote_status s = mote_quantize(in, out, &q, &report, &err);
        cli_progress_end(&p);
        if (s == MOTE_OK) {
            code = print_report(&o, &report, out);
            mote_quantize_report_free(&report);
        } else code = cli_fail(&err);
    }
    for (size_t i = 0; i < o.tensor_types.n; i++) free((char *)(uintptr_t)overrides[i].pattern);
    free(in);
    return code;
}
