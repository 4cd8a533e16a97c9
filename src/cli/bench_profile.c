/* bench_profile.c: where the time of a test went, as a table, as JSON, as a picture. */
#include "bench_view.h"

#include <errno.h>
#include <string.h>

static const char *const phase_names[MOTE_PROFILE_PHASES] = {"prefill", "decode"};

/* The least time an operation could take, ns: its bytes at the bandwidth of what one pass reads, its arithmetic at its
 * unit's rate. 0: neither is known. */
static double least_ns(const mote_profile_phase *p, const mote_profile_row *r, const mote_machine *m) {
    double bytes = 0;
    for (size_t i = 0; i < p->n_rows; i++) bytes += (double)p->rows[i].bytes;
    const double read = mote_machine_read_limit(m, bytes / (double)p->passes), peak = mote_machine_peak_limit(m, r->unit);
    const double reading = read > 0 ? (double)r->bytes / read : 0, computing = peak > 0 ? (double)r->ops / peak : 0;
    return reading > computing ? reading : computing;
}

static json_t *row_json(const mote_profile_row *r) {
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "op", r->op, "tensor", r->tensor, "format", r->format, "unit",
                     r->unit, "calls", (json_int_t)r->calls, "ns", (json_int_t)r->ns, "bytes", (json_int_t)r->bytes, "ops",
                     (json_int_t)r->ops);
}

static double outside_ns(const mote_profile_phase phases[MOTE_PROFILE_PHASES], double timed_ns) {
    for (int i = 0; i < MOTE_PROFILE_PHASES; i++) timed_ns -= (double)phases[i].ns;
    return timed_ns > 0 ? timed_ns : 0;
}

json_t *profile_json(const mote_profile_phase phases[MOTE_PROFILE_PHASES], double timed_ns, const mote_machine *m) {
    json_t *v = json_pack("{s:I}", "outside_ns", (json_int_t)outside_ns(phases, timed_ns));
    for (int i = 0; i < MOTE_PROFILE_PHASES; i++) {
        const mote_profile_phase *p = &phases[i];
        if (p->passes == 0) continue;
        json_t *rows = json_array();
        for (size_t r = 0; r < p->n_rows; r++) {
            const mote_profile_row *row = &p->rows[r];
            json_t *v_row = row_json(row);
            if (m && row->ns && least_ns(p, row, m) > 0)
                (void)json_object_set_new(v_row, "share", json_real(least_ns(p, row, m) / (double)row->ns));
            (void)json_array_append_new(rows, v_row);
        }
        (void)json_object_set_new(v, phase_names[i],
                                  json_pack("{s:I, s:I, s:I, s:o}", "passes", (json_int_t)p->passes, "tokens", (json_int_t)p->tokens,
                                            "ns", (json_int_t)p->ns, "rows", rows));
    }
    return v;
}

static void print_phase(const char *name, const mote_profile_phase *p, const mote_machine *m) {
    const double passes = (double)p->passes;
    double sum = 0;
    (void)printf("\n%s: %llu passes, %llu tokens, %.1f us a pass\n\n", name, (unsigned long long)p->passes,
                 (unsigned long long)p->tokens, (double)p->ns * 1e-3 / passes);
    (void)printf("| operation | tensor | format | calls | us | %% | GB/s | GOP/s |%s\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |%s\n",
                 m ? " of limit |" : "", m ? " ---: |" : "");
    for (size_t i = 0; i < p->n_rows; i++) {
        const mote_profile_row *r = &p->rows[i];
        const double ns = (double)r->ns;
        char bytes[32] = "", ops[32] = "";
        if (r->bytes && r->ns) (void)snprintf(bytes, sizeof bytes, "%.1f", (double)r->bytes / ns);
        if (r->ops && r->ns) (void)snprintf(ops, sizeof ops, "%.1f", (double)r->ops / ns);
        sum += ns;
        (void)printf("| %s | %s | %s | %.0f | %.1f | %.1f | %s | %s |", r->op, r->tensor, r->format, (double)r->calls / passes,
                     ns * 1e-3 / passes, 100 * ns / (double)p->ns, bytes, ops);
        const double least = m && r->ns ? least_ns(p, r, m) : 0;
        if (least > 0) (void)printf(" %.0f %% |", 100 * least / ns);
        else if (m) (void)printf(" |");
        (void)putchar('\n');
    }
    const double rest = (double)p->ns > sum ? (double)p->ns - sum : 0;
    (void)printf("| starting the threads | | | 1 | %.1f | %.1f | | |%s\n\n", rest * 1e-3 / passes, 100 * rest / (double)p->ns, m ? " |" : "");
}

void profile_print(const mote_profile_phase phases[MOTE_PROFILE_PHASES], double timed_ns, const mote_machine *m) {
    uint64_t passes = 0;
    for (int i = 0; i < MOTE_PROFILE_PHASES; i++)
        if (phases[i].passes) {
            print_phase(phase_names[i], &phases[i], m);
            passes += phases[i].passes;
        }
    if (passes) (void)printf("between passes (feeding, drawing): %.1f us each\n\n", outside_ns(phases, timed_ns) * 1e-3 / (double)passes);
}

/* ---- the picture ---- */
enum { WIDTH = 1200, BAR = 26, LEFT = 10 };

static const char *const colors[] = {"#f2b8a2", "#f5d58c", "#cfe3a0", "#a5dcb8", "#a0d8e0", "#aabff0", "#cdb4ee", "#efb0cf", "#d9cbb8"};

static void box(FILE *f, double x, int y, double w, const char *color, const char *name, const char *more, double us, double percent) {
    (void)fprintf(f,
                  "<g><title>%s %s: %.1f us a pass, %.1f %%</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" "
                  "fill=\"%s\" stroke=\"#fff\"/>",
                  name, more, us, percent, x, y, w, BAR - 2, color);
    const int room = (int)(w / 6.6);
    if (room > 3) (void)fprintf(f, "<text x=\"%.2f\" y=\"%d\">%.*s</text>", x + 3, y + 16, room, *more ? more : name);
    (void)fprintf(f, "</g>\n");
}

static double time_of(const mote_profile_phase *p, const char *op) {
    double ns = 0;
    for (size_t i = 0; i < p->n_rows; i++)
        if (strcmp(p->rows[i].op, op) == 0) ns += (double)p->rows[i].ns;
    return ns;
}

static bool seen_before(const mote_profile_phase *p, size_t row) {
    for (size_t i = 0; i < row; i++)
        if (strcmp(p->rows[i].op, p->rows[row].op) == 0) return true;
    return false;
}

/* Three bars: the phase, its operations, their tensors. */
static void draw_phase(FILE *f, const char *name, const mote_profile_phase *p, int y) {
    const double scale = (WIDTH - 2 * LEFT) / (double)p->ns, to_us = 1e-3 / (double)p->passes;
    double x = LEFT;
    size_t n_ops = 0;
    box(f, LEFT, y, WIDTH - 2 * LEFT, "#d0d7de", name, "", (double)p->ns * to_us, 100);
    for (size_t i = 0; i < p->n_rows; i++) {
        if (seen_before(p, i)) continue;
        const char *op = p->rows[i].op, *color = colors[n_ops++ % (sizeof colors / sizeof *colors)];
        const double ns = time_of(p, op);
        box(f, x, y + BAR, ns * scale, color, op, "", ns * to_us, 100 * ns / (double)p->ns);
        for (size_t j = i; j < p->n_rows; j++) {
            const mote_profile_row *r = &p->rows[j];
            if (strcmp(r->op, op) != 0) continue;
            char more[96];
            (void)snprintf(more, sizeof more, "%s%s%s", r->tensor, *r->format ? " " : "", r->format);
            const double mine = (double)r->ns;
            if (*more) box(f, x, y + 2 * BAR, mine * scale, color, op, more, mine * to_us, 100 * mine / (double)p->ns);
            x += mine * scale;
        }
    }
}

int profile_svg(const char *path, const char *title, const mote_profile_phase phases[MOTE_PROFILE_PHASES]) {
    FILE *f = fopen(path, "we");
    if (!f) {
        cli_say("%s: %s", path, strerror(errno));
        return CLI_IO;
    }
    int height = 2 * BAR + 8;
    for (int i = 0; i < MOTE_PROFILE_PHASES; i++)
        if (phases[i].passes) height += 4 * BAR;
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"11\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<text x=\"%d\" y=\"18\" font-size=\"14\">",
                  WIDTH, height, LEFT);
    for (const char *p = basename(title); *p; p++) { /* a file's name may hold anything */
        if (*p == '<' || *p == '&') (void)fputs(*p == '<' ? "&lt;" : "&amp;", f);
        else (void)fputc((unsigned char)*p < 32 ? ' ' : *p, f);
    }
    (void)fputs("</text>\n", f);
    int y = BAR + 8;
    for (int i = 0; i < MOTE_PROFILE_PHASES; i++) {
        if (!phases[i].passes) continue;
        draw_phase(f, phase_names[i], &phases[i], y);
        y += 4 * BAR;
    }
    (void)fputs("</svg>\n", f);
    if (ferror(f) | fclose(f)) {
        cli_say("%s: %s", path, strerror(errno));
        return CLI_IO;
    }
    return CLI_OK;
}
