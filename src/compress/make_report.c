/* make_report.c: what was made, from what, at which price: WORK/report/ with report.md, report.json and pictures. */
#include "compress/maker.h"

#include "quant/quant.h"

#include <sys/stat.h>
#include <unistd.h>

#define BAR_PX 9
#define WIDTH 900

static mote_status save(const maker *m, const char *name, const buf *b, mote_error *err) {
    char path[MAKE_PATH_MAX + 64];
    file_writer w;
    TRY(buf_check(b, name, err));
    (void)snprintf(path, sizeof path, "%s/report/%s", m->work, name);
    mote_status st = file_writer_open(&w, path, err);
    if (st == MOTE_OK) st = file_write(&w, b->p, b->n, err);
    if (st == MOTE_OK) st = file_writer_commit(&w, err);
    file_writer_abort(&w);
    return st;
}

static void put_xml(buf *b, str s) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '<') buf_puts(b, "&lt;");
        else if (c == '&') buf_puts(b, "&amp;");
        else buf_putc(b, c);
    }
}

static void svg_begin(buf *b, int width, int height, const char *title) {
    buf_printf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n"
                  "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n<text x=\"10\" y=\"18\" font-size=\"14\">%s</text>\n", width, height, width, height, width, height, title);
}

static double bits_of(const tensor_info *t) {
    double n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= (double)t->ne[i];
    return n > 0 ? 8 * (double)t->size / n : 0;
}

/* A bar a matrix: its length is bits per weight, its label how many weights there are. */
static void draw_bits(const model_file *f, buf *b) {
    size_t n = 0;
    double most = 1;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        if (t->n_dims < 2) continue;
        n++;
        most = MAX(most, bits_of(t));
    }
    svg_begin(b, WIDTH, (int)(n * (BAR_PX + 3)) + 40, "bits per weight of each matrix");
    size_t row = 0;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        if (t->n_dims < 2) continue;
        double bits = bits_of(t);
        int y = 30 + (int)(row++ * (BAR_PX + 3));
        buf_printf(b, "<text x=\"235\" y=\"%d\" text-anchor=\"end\" font-size=\"9\">", y + BAR_PX - 1);
        put_xml(b, t->name);
        buf_printf(b, "</text><rect x=\"240\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"hsl(%.0f,55%%,50%%)\"/>", y, 520 * bits / most, BAR_PX, 220 - 200 * bits / most);
        buf_printf(b, "<text x=\"%.1f\" y=\"%d\" font-size=\"9\">%.2f  %s</text>\n", 245 + 520 * bits / most, y + BAR_PX - 1, bits, quant_get((int)t->type)->name);
    }
    buf_puts(b, "</svg>\n");
}

typedef struct point {
    const char *name;
    double mb, ppl;
} point;

/* Size against perplexity: the source, and what each stage made. */
static void draw_quality(const maker *m, buf *b) {
    const mote_make_report *r = m->r;
    point p[MOTE_MAKE_STAGES_MAX + 1];
    size_t n = 0;
    double mb = 0, low = r->ppl_from, high = r->ppl_from;
    p[n++] = (point){"source", (double)r->bytes_from * 1e-6, r->ppl_from};
    for (size_t i = 0; i < r->n_stages; i++)
        if (r->stages[i].makes_model && r->stages[i].ppl > 0) p[n++] = (point){r->stages[i].name, (double)r->stages[i].bytes * 1e-6, r->stages[i].ppl};
    for (size_t i = 0; i < n; i++) mb = MAX(mb, p[i].mb), low = MIN(low, p[i].ppl), high = MAX(high, p[i].ppl);
    if (high <= low) high = low + 1;
    svg_begin(b, WIDTH / 2 + 100, 360, "perplexity against megabytes");
    buf_puts(b, "<path d=\"M60 40V310H520\" fill=\"none\" stroke=\"black\"/>\n");
    for (int i = 0; i <= 4; i++) {
        double v = low + (high - low) * i / 4, x = mb * i / 4;
        buf_printf(b, "<text x=\"55\" y=\"%.0f\" text-anchor=\"end\">%.2f</text><text x=\"%.0f\" y=\"325\" text-anchor=\"middle\">%.1f</text>\n", 304 - 240 * (v - low) / (high - low), v,
                   60 + 440 * x / (mb > 0 ? mb : 1), x);
    }
    for (size_t i = 0; i < n; i++) {
        double x = 60 + 440 * p[i].mb / (mb > 0 ? mb : 1), y = 300 - 240 * (p[i].ppl - low) / (high - low);
        if (i) buf_printf(b, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#bbb\"/>", 60 + 440 * p[i - 1].mb / mb, 300 - 240 * (p[i - 1].ppl - low) / (high - low), x, y);
        buf_printf(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#2a6\"/><text x=\"%.1f\" y=\"%.1f\">%zu ", x, y, x + 7, y - 5, i);
        put_xml(b, str_of(p[i].name));
        buf_puts(b, "</text>\n");
    }
    buf_puts(b, "</svg>\n");
}

static void stage_folder(const maker *m, const mote_make_stage *s, char out[MAKE_PATH_MAX]) {
    (void)snprintf(out, MAKE_PATH_MAX, "%.*s/%s", MAKE_PATH_MAX - 96, m->work, s->folder);
}

/* Copies a training stage's loss curve; false: it has none. */
static bool copy_curve(const maker *m, size_t i, char name[32]) {
    char dir[MAKE_PATH_MAX], path[MAKE_PATH_MAX + 64];
    file_map f;
    stage_folder(m, &m->r->stages[i], dir);
    (void)snprintf(path, sizeof path, "%s/out.gguf.run/loss.svg", dir);
    if (file_open(&f, path, FILE_READ, NULL) != MOTE_OK) return false;
    buf b;
    buf_init(&b, (size_t)1 << 26);
    buf_put(&b, f.p, f.n);
    file_close(&f);
    (void)snprintf(name, 32, "loss-%zu.svg", i + 1);
    bool ok = save(m, name, &b, NULL) == MOTE_OK;
    buf_free(&b);
    return ok;
}

static void put_verdict(const maker *m, buf *b) {
    const mote_make_report *r = m->r;
    double ratio = r->ppl_from > 0 ? r->ppl_to / r->ppl_from : 0;
    buf_printf(b, "| | source | result | bound |\n|---|---:|---:|---:|\n| megabytes | %.2f | **%.2f** | ", (double)r->bytes_from * 1e-6, (double)r->bytes_to * 1e-6);
    if (m->target) buf_printf(b, "%.2f |\n", (double)m->target * 1e-6);
    else buf_puts(b, "none |\n");
    if (*r->smoke) buf_printf(b, "| smoke test | | %s | %s |\n", r->smoke, r->smoke_broken ? "**failed**" : "passed");
    if (!(r->ppl_from > 0)) return;
    buf_printf(b, "| perplexity | %.4f | **%.4f** (×%.3f) | ", r->ppl_from, r->ppl_to, ratio);
    if (m->gate_ratio > 0) buf_printf(b, "×%.3f |\n", m->gate_ratio);
    else buf_puts(b, "none |\n");
    if (!(r->top > 0)) return;
    buf_printf(b, "| divergence, nats | 0 | **%.4f** | ", r->kld);
    if (m->gate_kld > 0) buf_printf(b, "%.4f |\n", m->gate_kld);
    else buf_puts(b, "none |\n");
    buf_printf(b, "| same likeliest token | 100 %% | **%.1f %%** | ", r->top * 100);
    if (m->gate_top > 0) buf_printf(b, "%.1f %% |\n", m->gate_top * 100);
    else buf_puts(b, "none |\n");
}

static void put_stages(maker *m, buf *b) {
    const mote_make_report *r = m->r;
    buf_puts(b, "\n## Stages\n\n| | stage | key | seconds | megabytes | perplexity | divergence | same top |\n|---|---|---|---:|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < r->n_stages; i++) {
        const mote_make_stage *s = &r->stages[i];
        buf_printf(b, "| %zu | %s%s | `%.12s` | %.1f | ", i + 1, s->name, s->cached ? " (kept)" : "", s->key, s->seconds);
        if (s->makes_model && s->ppl > 0) buf_printf(b, "%.2f | %.4f | %.4f | %.1f %% |\n", (double)s->bytes * 1e-6, s->ppl, s->kld, s->top * 100);
        else buf_printf(b, "%.2f | | | |\n", (double)s->bytes * 1e-6);
    }
    for (size_t i = 0; i < r->n_stages; i++) {
        char name[32];
        if (copy_curve(m, i, name)) buf_printf(b, "\n![loss of stage %zu](%s)\n", i + 1, name);
    }
}

static mote_status put_page(maker *m, buf *b, mote_error *err) {
    const mote_make_report *r = m->r;
    char source[SHA256_HEX], result[SHA256_HEX], text[SHA256_HEX] = "";
    TRY(make_hash(m, m->source, source, err));
    TRY(make_hash(m, m->model, result, err));
    if (m->eval_text[0]) TRY(make_hash(m, m->eval_text, text, err));
    buf_printf(b, "# %s\n\n%s\n\n", m->out, r->gate_passed ? "Every bound is kept." : "**A bound is not kept: nothing was replaced.**");
    put_verdict(m, b);
    put_stages(m, b);
    buf_puts(b, "\n![bits per weight](bits.svg)\n\n![quality against size](quality.svg)\n\n## To make it again\n\n");
    buf_printf(b, "- source `%s`, SHA-256 `%s`\n- result SHA-256 `%s`\n- measured on %s%s%s, %zu windows of %zu tokens\n- recipe `%s`, %.1f s in this call\n", m->source, source, result,
               m->eval_text[0] ? m->eval_text : "the calibration text that mote brings (not independent of calibration)", text[0] ? ", SHA-256 " : "", text, m->eval_chunks, m->eval_ctx,
               m->recipe_path, r->seconds);
    return MOTE_OK;
}

static json_t *tree(const maker *m) {
    const mote_make_report *r = m->r;
    json_t *stages = json_array();
    for (size_t i = 0; i < r->n_stages; i++) {
        const mote_make_stage *s = &r->stages[i];
        (void)json_array_append_new(stages, json_pack("{s:s, s:s, s:b, s:f, s:I, s:f, s:f, s:f}", "command", s->name, "key", s->key, "kept", s->cached, "seconds", s->seconds, "bytes",
                                                      (json_int_t)s->bytes, "perplexity", s->ppl, "kld", s->kld, "same_top", s->top));
    }
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:b, s:s, s:b, s:f, s:o}", "source", m->source, "out", m->out, "bytes_from", (json_int_t)r->bytes_from, "bytes_to",
                     (json_int_t)r->bytes_to, "target", (json_int_t)m->target, "perplexity_from", r->ppl_from, "perplexity", r->ppl_to, "kld", r->kld, "same_top", r->top, "passed",
                     r->gate_passed, "smoke", r->smoke, "smoke_broken", r->smoke_broken, "seconds", r->seconds, "stages", stages);
}

mote_status make_report(maker *m, mote_error *err) {
    char dir[MAKE_PATH_MAX];
    (void)snprintf(dir, sizeof dir, "%.*s/report", MAKE_PATH_MAX - 64, m->work);
    if (mkdir(dir, 0777) != 0 && !file_is_dir(dir)) FAIL(err, MOTE_E_IO, "%s: the folder cannot be made", dir);
    model_file *f = NULL;
    buf b;
    buf_init(&b, (size_t)1 << 26);
    mote_status st = model_file_open(&f, m->model, 0, err);
    if (st == MOTE_OK) draw_bits(f, &b), st = save(m, "bits.svg", &b, err);
    model_file_close(&f);
    buf_clear(&b);
    if (st == MOTE_OK) draw_quality(m, &b), st = save(m, "quality.svg", &b, err);
    buf_clear(&b);
    if (st == MOTE_OK) st = put_page(m, &b, err);
    if (st == MOTE_OK) st = save(m, "report.md", &b, err);
    buf_free(&b);
    if (st != MOTE_OK) return st;
    char path[MAKE_PATH_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/report.json", dir);
    json_t *v = tree(m);
    st = make_save_json(path, v, err);
    json_decref(v);
    return st;
}
