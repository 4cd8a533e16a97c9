/* cmd_imatrix.c: importance matrices, by the method and in the files of llama-imatrix. */
#include "commands.h"
#include "common.h"
#include "mote/prepare.h"
#include "mote/imatrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct imatrix_options {
    model_flags model;
    session_flags session;
    const char *file, *out, *format;
    cli_list in;
    int64_t chunks, first, save_every, output_every;
    bool process_output, parse_special, no_ppl, statistics, json;
};

const cli_option imatrix_options[] = {
    OPT_STR(struct imatrix_options, file, "file", "f", "TEXT", "the calibration text, or JSON lines with \"text\" or chats (- for standard input; absent: the one that mote brings)"),
    OPT_STR(struct imatrix_options, out, "output", "o", "FILE", "where the matrix goes (imatrix.gguf)"),
    OPT_CHOICE(struct imatrix_options, format, "output-format", NULL, "gguf|dat", "dat: the older format, for old programs"),
    OPT_LIST(struct imatrix_options, in, "in-file", NULL, "FILE", "add to this matrix; may be given many times, and without a text to merge files"),
    OPT_INT(struct imatrix_options, chunks, "chunks", NULL, "N", -1, 1 << 30, "measure N windows (-1 or 0: all)"),
    OPT_INT(struct imatrix_options, first, "chunk", NULL, "N", 0, 1 << 30, "skip the first N windows"),
    OPT_INT(struct imatrix_options, first, "from-chunk", NULL, "N", 0, 1 << 30, "the same"),
    OPT_FLAG(struct imatrix_options, process_output, "process-output", NULL, "also the output matrix (the embedding, where it serves as one)"),
    OPT_FLAG(struct imatrix_options, parse_special, "parse-special", NULL, "control tokens in the text are parsed"),
    OPT_FLAG(struct imatrix_options, no_ppl, "no-ppl", NULL, "no perplexity: faster"),
    OPT_INT(struct imatrix_options, output_every, "output-frequency", "ofreq", "N", 0, 1 << 30, "write the file every N windows, too (10)"),
    OPT_INT(struct imatrix_options, save_every, "save-frequency", NULL, "N", 0, 1 << 30, "keep a copy FILE.at_K every N windows (0: none)"),
    OPT_FLAG(struct imatrix_options, statistics, "show-statistics", NULL, "say what is in the one file of --in-file"),
    OPT_FLAG(struct imatrix_options, json, "json", NULL, "print JSON"),
    MODEL_OPTIONS(struct imatrix_options, model),
    SESSION_OPTIONS(struct imatrix_options, session),
    {0},
};
const cli_example imatrix_examples[] = {
    {"mote imatrix -m f16.gguf -o imatrix.gguf", "measure, on the calibration text that mote brings"},
    {"mote imatrix -m f16.gguf -f calibration.txt -o imatrix.gguf", "on another text"},
    {"mote quantize --imatrix imatrix.gguf f16.gguf out.gguf IQ3_XXS", "and use it"},
    {"mote imatrix --in-file a.gguf --in-file b.dat -o both.gguf", "add files up"},
    {"mote imatrix --in-file imatrix.gguf --show-statistics", "what is in it"},
    {0},
};

#define TEXT_MAX ((size_t)1 << 30)
#define CTX_DEFAULT 512

static int on_chunk(void *ctx, size_t done, size_t total, double ppl) {
    (void)ppl;
    cli_progress_show(ctx, (double)done, (double)total, "windows");
    return 0;
}

static json_t *row_json(const mote_imatrix_row *r) {
    return json_pack("{s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "name", r->name, "tensor", r->tensor, "layer", r->layer,
                     "n", (json_int_t)r->n, "total", r->total, "mean", r->mean, "min", r->min, "max", r->max, "stddev", r->stddev, "active",
                     r->active, "entropy", r->entropy, "zd", r->zd, "cossim", r->cossim);
}

/* Means of a layer's tensors, weighted by their sizes, as llama-imatrix prints them. */
static void print_layers(const mote_imatrix_stats *s) {
    int last = -1;
    for (size_t i = 0; i < s->n_rows; i++) last = s->rows[i].layer > last ? s->rows[i].layer : last;
    (void)printf("\n%5s  %14s  %9s  %7s\n", "layer", "mean of sums", "ZD", "CosSim");
    for (int l = 0; l <= last; l++) {
        double n = 0, total = 0, zd = 0, cos = 0;
        for (size_t i = 0; i < s->n_rows; i++) {
            const mote_imatrix_row *r = &s->rows[i];
            if (r->layer != l) continue;
            n += (double)r->n;
            total += (double)r->n * r->total;
            zd += (double)r->n * r->zd;
            cos += (double)r->n * r->cossim;
        }
        if (n > 0) (void)printf("%5d  %14.2f  %8.4f%%  %7.4f\n", l, total / n, 100 * zd / n, cos / n);
    }
}

static int show_statistics(const struct imatrix_options *o) {
    mote_imatrix_stats s;
    mote_error err;
    if (mote_imatrix_statistics(o->in.v[0], &s, &err) != MOTE_OK) return cli_fail(&err);
    int code = CLI_OK;
    if (o->json) {
        json_t *rows = json_array();
        for (size_t i = 0; i < s.n_rows; i++) (void)json_array_append_new(rows, row_json(&s.rows[i]));
        code = cli_print_json(json_pack("{s:I, s:I, s:o}", "chunks", (json_int_t)s.n_chunks, "chunk_size", (json_int_t)s.chunk_size, "tensors", rows));
    } else {
        (void)printf("%s: %zu tensors, %zu windows of %zu tokens\n\n%5s  %-20s %12s %10s %12s %9s %9s %9s %7s %9s %9s %9s %8s\n", o->in.v[0], s.n_rows,
                     s.n_chunks, s.chunk_size, "layer", "tensor", "sum of act²", "min", "max", "mean", "stddev", "active", "N", "entropy", "of most",
                     "ZD", "CosSim");
        for (size_t i = 0; i < s.n_rows; i++) {
            const mote_imatrix_row *r = &s.rows[i];
            (void)printf("%5d  %-20s %12.2f %10.4f %12.4f %9.2f %9.2f %8.2f%% %7zu %9.4f %8.2f%% %8.2f%% %8.4f\n", r->layer, r->tensor, r->total,
                         r->min, r->max, r->mean, r->stddev, 100 * r->active, r->n, r->entropy,
                         r->n > 1 ? 100 * r->entropy / log2((double)r->n) : 0, 100 * r->zd, r->cossim);
        }
        print_layers(&s);
        code = cli_done(CLI_OK);
    }
    mote_imatrix_stats_free(&s);
    return code;
}

static int print_result(const struct imatrix_options *o, const mote_imatrix_result *r) {
    if (o->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f}", "file", o->out, "entries", (json_int_t)r->n_entries, "chunks",
                                        (json_int_t)r->n_chunks, "tokens", (json_int_t)r->n_tokens, "partial", (json_int_t)r->n_partial, "ppl",
                                        r->ppl, "ppl_error", r->ppl_error));
    if (r->ppl > 0) (void)printf("Final estimate: PPL = %.4f +/- %.5f\n", r->ppl, r->ppl_error);
    if (r->n_partial) (void)printf("%zu entries are partial: some of their experts were never met; a longer text helps\n", r->n_partial);
    (void)printf("%zu entries, %zu windows, written to %s\n", r->n_entries, r->n_chunks, o->out);
    return cli_done(CLI_OK);
}

static int measure(const struct imatrix_options *o, mote_imatrix_opts *io) {
    mote_error err;
    size_t n;
    char *read = o->file ? cli_read_text(o->file, TEXT_MAX, &n, &err) : NULL;
    if (o->file && !read) return cli_fail(&err);
    const char *text = read ? read : mote_calibration_text(&n);
    loaded l = {0};
    int code = load_model(&l, &o->model, NULL, false);
    if (code == CLI_OK) code = load_session(&l, &o->session, NULL, o->model.verbose);
    if (code == CLI_OK) {
        mote_imatrix_result r = {.size = sizeof r};
        cli_progress p = cli_progress_start("measuring");
        io->n_ctx = (size_t)o->session.ctx;
        io->on_chunk = on_chunk;
        io->ctx = &p;
        mote_status s = mote_imatrix(l.session, text, n, io, &r, &err);
        cli_progress_end(&p);
        code = s == MOTE_OK ? print_result(o, &r) : cli_fail(&err);
    }
    load_close(&l);
    free(read);
    return code;
}

static int merge(const struct imatrix_options *o, const mote_imatrix_opts *io) {
    mote_error err;
    mote_imatrix_result r = {.size = sizeof r};
    return mote_imatrix_merge(io, &r, &err) == MOTE_OK ? print_result(o, &r) : cli_fail(&err);
}

int cmd_imatrix(const cli_command *self, int argc, char **argv) {
    struct imatrix_options o = {.session = {.ctx = CTX_DEFAULT, .activations = "f32"}, .out = "imatrix.gguf", .output_every = 10};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, 0, argc, argv, &code)) return code;
    if (o.statistics && (o.in.n != 1 || o.file)) return cli_usage(self, "--show-statistics is about one file: --in-file FILE");
    if (o.statistics) return show_statistics(&o);
    mote_imatrix_opts io = mote_imatrix_opts_default();
    io.out = o.out;
    io.legacy = o.format && strcmp(o.format, "dat") == 0;
    io.n_chunks = o.chunks > 0 ? (size_t)o.chunks : 0;
    io.first_chunk = (size_t)o.first;
    io.process_output = o.process_output;
    io.parse_special = o.parse_special;
    io.no_ppl = o.no_ppl;
    io.in = o.in.v;
    io.n_in = o.in.n;
    io.dataset = o.file ? o.file : "mote:calibration";
    io.save_every = (size_t)o.save_every;
    io.output_every = (size_t)o.output_every;
    return o.file || o.in.n == 0 ? measure(&o, &io) : merge(&o, &io);
}
