#include "train/runlog.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { LINE_MAX_BYTES = 1 << 16, POINTS_MAX = 10000000 };
#define LOG_BYTES_MAX ((size_t)1 << 30)

struct point {
    uint64_t step;
    double loss, eval;
};

struct runlog {
    char *dir, *curve;
    FILE *f;
    struct point *points;
    size_t n, cap;
};

static char *in_dir(const char *dir, const char *name) {
    size_t n = strlen(dir) + strlen(name) + 2;
    char *p = mem_calloc(n, 1);
    if (p) (void)snprintf(p, n, "%s/%s", dir, name);
    return p;
}

static mote_status add(runlog *r, struct point p, mote_error *err) {
    TRY(mem_grow(&r->points, &r->cap, r->n + 1, sizeof *r->points, POINTS_MAX, err));
    r->points[r->n++] = p;
    return MOTE_OK;
}

/* The lines of an earlier part of the run up to step `at`; a line that was cut short ends it. */
static mote_status read_back(runlog *r, const char *path, uint64_t at, buf *kept, mote_error *err) {
    file_map m;
    mote_error none;
    if (at == 0 || file_open(&m, path, FILE_READ, &none) != MOTE_OK) return MOTE_OK;
    str all = {(const char *)m.p, m.n};
    mote_status s = MOTE_OK;
    for (size_t from = 0; from < all.n && s == MOTE_OK;) {
        size_t end = str_find(all, STR("\n"), from);
        json_t *line;
        if (end == SIZE_MAX || end - from > LINE_MAX_BYTES || json_parse(&line, str_sub(all, from, end - from), "log", &none) != MOTE_OK) break;
        struct point p = {(uint64_t)json_get_int(line, "step", 0), json_get_num(line, "loss", (double)NAN), json_get_num(line, "eval_loss", (double)NAN)};
        json_decref(line);
        if (p.step == 0 || p.step > at) break;
        s = add(r, p, err);
        buf_put(kept, all.p + from, end + 1 - from);
        from = end + 1;
    }
    file_close(&m);
    return s;
}

static mote_status write_file(const char *path, const buf *b, mote_error *err) {
    file_writer w;
    TRY(buf_check(b, path, err));
    TRY(file_writer_open(&w, path, err));
    mote_status s = file_write(&w, b->p, b->n, err);
    if (s == MOTE_OK) s = file_writer_commit(&w, err);
    file_writer_abort(&w);
    return s;
}

mote_status runlog_open(runlog **out, const char *dir, uint64_t at, mote_error *err) {
    *out = NULL;
    runlog *r = MEM_NEW(runlog);
    char *path = in_dir(dir, "log.jsonl");
    buf kept;
    mote_status s;
    buf_init(&kept, LOG_BYTES_MAX);
    if (!r || !path || !(r->dir = mem_strdup(dir)) || !(r->curve = in_dir(dir, "loss.svg"))) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    TRYG(s, read_back(r, path, at, &kept, err));
    TRYG(s, write_file(path, &kept, err)); /* whole or as it was, should the run be killed here */
    r->f = fopen(path, "ab");
    if (!r->f) FAILG(s, err, MOTE_E_IO, "%s: %s", path, strerror(errno));
    *out = r;
    r = NULL;
out:
    buf_free(&kept);
    mem_free(path);
    runlog_close(&r);
    return s;
}

void runlog_close(runlog **r) {
    if (!*r) return;
    if ((*r)->f) (void)fclose((*r)->f);
    mem_free((*r)->dir);
    mem_free((*r)->curve);
    mem_free((*r)->points);
    mem_free(*r);
    *r = NULL;
}

const char *runlog_curve(const runlog *r) { return r->curve; }

mote_status runlog_step(runlog *r, const mote_train_progress *p, mote_error *err) {
    TRY(add(r, (struct point){p->step, p->loss, p->eval_loss}, err));
    json_t *o = json_pack("{s:I, s:f, s:f, s:I, s:f, s:f, s:f}", "step", (json_int_t)p->step, "lr", p->lr, "seconds", p->seconds, "tokens",
                          (json_int_t)p->tokens, "tokens_per_s", p->tokens_per_s, "gflop_s", p->flop_s * 1e-9, "machine_share", p->machine_share);
    bool failed = !o; /* JSON has no NaN: what is none is left out */
    if (o && isfinite(p->loss)) failed |= json_object_set_new(o, "loss", json_real(p->loss)) != 0;
    if (o && isfinite(p->grad_norm)) failed |= json_object_set_new(o, "grad_norm", json_real(p->grad_norm)) != 0;
    if (o && isfinite(p->eval_loss)) failed |= json_object_set_new(o, "eval_loss", json_real(p->eval_loss)) != 0;
    if (o && p->sample) failed |= json_object_set_new(o, "sample", json_stringn_nocheck(p->sample, strlen(p->sample))) != 0;
    char *text = failed ? NULL : json_dumps(o, JSON_COMPACT);
    json_decref(o);
    if (!text) FAIL(err, MOTE_E_MEMORY, "out of memory");
    (void)fprintf(r->f, "%s\n", text); /* a log that a full disk cuts short costs nothing else */
    (void)fflush(r->f);
    free(text);
    return MOTE_OK;
}

double runlog_loss(const runlog *r) {
    size_t from = r->n - MAX(r->n / 10, MIN(r->n, 1)), n = 0;
    double sum = 0;
    for (size_t i = from; i < r->n; i++)
        if (isfinite(r->points[i].loss)) {
            sum += r->points[i].loss;
            n++;
        }
    return n ? sum / (double)n : (double)NAN;
}

double runlog_eval(const runlog *r, double *least) {
    double last = (double)NAN;
    *least = (double)NAN;
    for (size_t i = 0; i < r->n; i++) {
        if (!isfinite(r->points[i].eval)) continue;
        last = r->points[i].eval;
        *least = isnan(*least) ? last : fmin(*least, last);
    }
    return last;
}

/* ---- the curve ---- */
enum { WIDTH = 720, HEIGHT = 360, LEFT = 56, RIGHT = 16, TOP = 24, BOTTOM = 40, COLUMNS = 400 };

struct frame {
    double x1, y0, y1; /* steps 0 … x1; losses y0 … y1 */
};
static double at_x(const struct frame *f, double step) { return LEFT + (WIDTH - LEFT - RIGHT) * step / f->x1; }
static double at_y(const struct frame *f, double loss) { return TOP + (HEIGHT - TOP - BOTTOM) * (f->y1 - loss) / (f->y1 - f->y0); }

static struct frame frame_of(const runlog *r) {
    struct frame f = {1, HUGE_VAL, -HUGE_VAL};
    for (size_t i = 0; i < r->n; i++) {
        const struct point *p = &r->points[i];
        f.x1 = fmax(f.x1, (double)p->step);
        if (isfinite(p->loss)) {
            f.y0 = fmin(f.y0, p->loss);
            f.y1 = fmax(f.y1, p->loss);
        }
        if (isfinite(p->eval)) {
            f.y0 = fmin(f.y0, p->eval);
            f.y1 = fmax(f.y1, p->eval);
        }
    }
    if (!(f.y1 > f.y0)) {
        f.y0 = isfinite(f.y0) ? f.y0 - 0.5 : 0;
        f.y1 = f.y0 + 1;
    }
    return f;
}

/* At most COLUMNS points: the mean of each column's steps. */
static void draw_losses(buf *b, const runlog *r, const struct frame *f) {
    size_t per = r->n / COLUMNS + 1;
    bool open = false;
    buf_puts(b, "<path fill=\"none\" stroke=\"#2563eb\" stroke-width=\"1.5\" d=\"");
    for (size_t i = 0; i < r->n; i += per) {
        double sum = 0, step = 0;
        size_t n = 0;
        for (size_t k = i; k < MIN(i + per, r->n); k++) {
            if (!isfinite(r->points[k].loss)) continue;
            sum += r->points[k].loss;
            step += (double)r->points[k].step;
            n++;
        }
        if (n) buf_printf(b, "%c%.1f %.1f", open ? 'L' : 'M', at_x(f, step / (double)n), at_y(f, sum / (double)n));
        open |= n > 0;
    }
    buf_puts(b, "\"/>\n");
}

static void draw(buf *b, const runlog *r, const char *title) {
    struct frame f = frame_of(r);
    buf_printf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"%d\" y=\"16\">%s</text>\n", WIDTH, HEIGHT, LEFT, title);
    for (int i = 0; i <= 4; i++) {
        double loss = f.y0 + (f.y1 - f.y0) * i / 4, step = f.x1 * i / 4;
        buf_printf(b, "<path stroke=\"#ddd\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>"
                      "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", LEFT, at_y(&f, loss), WIDTH - RIGHT, LEFT - 6,
                   at_y(&f, loss) + 4, loss, at_x(&f, step), HEIGHT - BOTTOM + 18, step);
    }
    buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
    draw_losses(b, r, &f);
    for (size_t i = 0; i < r->n; i++)
        if (isfinite(r->points[i].eval))
            buf_printf(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"#dc2626\"/>\n", at_x(&f, (double)r->points[i].step), at_y(&f, r->points[i].eval));
    buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\"><tspan fill=\"#2563eb\">training</tspan> <tspan fill=\"#dc2626\">held out</tspan></text>\n</svg>\n",
               WIDTH - RIGHT, 16);
}

static void tell_facts(buf *b, const json_t *facts) {
    union { /* jansson's iterators take no const */
        const json_t *in;
        json_t *out;
    } o = {facts};
    const char *key;
    json_t *v;
    json_object_foreach(o.out, key, v) {
        char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        buf_printf(b, "| %s | %s |\n", key, json_is_string(v) ? json_string_value(v) : text ? text : "");
        free(text);
    }
}

mote_status runlog_finish(runlog *r, const char *title, const json_t *facts, mote_error *err) {
    buf b;
    double least, eval = runlog_eval(r, &least);
    buf_init(&b, (size_t)16 << 20);
    draw(&b, r, "loss");
    mote_status s = write_file(r->curve, &b, err);
    buf_clear(&b);
    buf_printf(&b, "# %s\n\n![loss](loss.svg)\n\n| what | value |\n|---|---|\n", title);
    tell_facts(&b, facts);
    buf_printf(&b, "| loss at the end (mean of the last tenth) | %.4f |\n", runlog_loss(r));
    if (isfinite(eval)) buf_printf(&b, "| held-out loss at the end, and its least | %.4f, %.4f |\n", eval, least);
    char *page = in_dir(r->dir, "report.md");
    if (s == MOTE_OK) s = page ? write_file(page, &b, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    mem_free(page);
    buf_free(&b);
    return s;
}
