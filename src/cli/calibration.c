/* calibration.c: what the commands that make models smaller share. */
#include "calibration.h"
#include "models.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

json_t *quantize_report_json(const mote_quantize_report *r) {
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

void quantize_report_print(const mote_quantize_report *r, bool quiet, bool dry_run, const char *out) {
    char from[32], to[32], shape[96];
    for (size_t i = 0; i < r->n_tensors; i++) {
        const mote_quantized_tensor *t = &r->tensors[i];
        if (quiet && !t->why) continue;
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
    if (!dry_run) (void)printf("NMSE %.3e, %.1f s, written to %s\n", r->nmse, r->seconds, out);
}

int overrides_split(const cli_command *self, const cli_list *l, mote_tensor_type *out) {
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

void overrides_free(mote_tensor_type *out, size_t n) {
    for (size_t i = 0; i < n; i++) free((char *)(uintptr_t)out[i].pattern);
}

bool calibration_method(const cli_command *self, const char *method, mote_calibrate_options *o) {
    static const char *const scales[] = {"awq", "smoothquant"}, *const rounds[] = {"nearest", "gptq", "autoround", "block-qat"};
    const char *rest = method;
    o->round = "nearest";
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        size_t n = strlen(scales[i]);
        if (strncmp(method, scales[i], n) || (method[n] && method[n] != '+')) continue;
        o->scale = scales[i];
        if (!method[n]) return true;
        rest = method + n + 1;
    }
    for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
        if (strcmp(rest, rounds[i])) continue;
        o->round = rounds[i];
        return true;
    }
    (void)cli_usage(self, "--method is one of nearest, gptq, autoround, block-qat, awq, smoothquant, or two like awq+gptq; not '%s'", method);
    return false;
}

void calibration_fill(const calibration_flags *f, mote_calibrate_options *o) {
    o->text = f->text.v;
    o->n_text = f->text.n;
    o->n_seqs = (size_t)f->seqs;
    o->n_ctx = (size_t)f->ctx;
    o->seed = (uint64_t)f->seed;
    o->damp = f->damp;
    o->no_act_order = f->no_act_order;
    o->alpha = f->alpha;
    o->steps = (size_t)f->steps;
    o->lr = f->lr;
    o->targets = f->targets.v;
    o->n_targets = f->targets.n;
    o->ignore = f->ignore.v;
    o->n_ignore = f->ignore.n;
}

bool calibration_layer(void *ctx, size_t done, size_t n) {
    cli_progress_show(ctx, (double)done, (double)n, "layers");
    return true;
}

int calibration_run(const char *in, const char *out, const char *recipe, const mote_calibrate_options *options, calibration_say say) {
    mote_error err;
    mote_calibrate_report r;
    mote_calibrate_options o = *options;
    cli_progress p = cli_progress_start("calibrating");
    o.layer_done = calibration_layer;
    o.layer_ctx = &p;
    mote_status s = recipe ? mote_compress(in, out, recipe, &o, &r, &err) : mote_calibrate(in, out, &o, &r, &err);
    cli_progress_end(&p);
    if (s != MOTE_OK) return cli_fail(&err);
    int code, threads = options->quantize.n_threads;
    if (say.json) {
        json_t *j = quantize_report_json(&r.quantize);
        (void)json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:f}", "calibration_tokens", (json_int_t)r.n_tokens, "matrices",
                                                  (json_int_t)r.n_matrices, "groups_scaled", (json_int_t)r.n_groups_scaled, "layers_learned",
                                                  (json_int_t)r.n_layers_learned, "sparsity", r.sparsity));
        json_t *smoke = smoke_result(out, in, threads, say.no_smoke, true);
        if (smoke) (void)json_object_set_new(j, "smoke", smoke);
        code = cli_print_json(j);
    } else {
        quantize_report_print(&r.quantize, say.quiet, false, out);
        (void)printf("%zu matrices with %zu calibration tokens", r.n_matrices, r.n_tokens);
        if (r.n_groups_scaled) (void)printf(", %zu groups scaled", r.n_groups_scaled);
        if (r.n_layers_learned) (void)printf(", %zu layers better than nearest levels", r.n_layers_learned);
        if (r.sparsity > 0) (void)printf(", %.2f %% of their weights are 0", 100 * r.sparsity);
        (void)putchar('\n');
        json_decref(smoke_result(out, in, threads, say.no_smoke, false));
        code = cli_done(CLI_OK);
    }
    mote_calibrate_report_free(&r);
    return code;
}

int shrink_run(const cli_command *self, const cli_args *args, const char *recipe, const shrink_flags *f, mote_calibrate_options *c) {
    mote_tensor_type overrides[CLI_LIST_MAX] = {{0}};
    int code;
    char *in = models_resolve(args->v[0], &code);
    if (!in) return code;
    code = overrides_split(self, &f->tensor_types, overrides);
    if (code == CLI_OK) {
        mote_quantize_options *q = &c->quantize;
        q->type = args->n > 2 ? args->v[2] : NULL, q->overrides = overrides, q->n_overrides = f->tensor_types.n;
        q->output_format = f->output_type, q->token_embedding_format = f->embedding_type;
        q->allow_requantize = f->allow_requantize, q->n_threads = (int)f->threads;
        calibration_fill(&f->cal, c);
        code = calibration_run(in, args->v[1], recipe, c, f->say);
    }
    overrides_free(overrides, f->tensor_types.n);
    free(in);
    return code;
}
