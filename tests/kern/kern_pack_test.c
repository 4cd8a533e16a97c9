/* kern_pack_test.c: packing gives the bytes of its definition for every format, reads nothing beyond the rows, and a row
 * taken back out of a panel is the row the file's format decodes to, bit for bit. */
#include "kern/check.h"

static void random_rows(quant_type type, const guarded *rows, size_t row_bytes, size_t k, rng *r, bool wild) {
    for (size_t j = 0; j < KERN_PANEL; j++) random_row(type, rows->p + j * row_bytes, k, r);
    for (size_t i = 0; wild && i < rows->n; i++) rows->p[i] = (unsigned char)rng_u32(r);
}

/* How many of a panel's bytes differ from the definition, padding left alone by both. */
static size_t wrong_bytes(const kern_packing *p, const guarded *panel, const unsigned char *const *rows, size_t k) {
    guarded ref = guarded_new(panel->n);
    memset(panel->p, 0xa5, panel->n);
    memset(ref.p, 0xa5, ref.n);
    kern_pack_panel(p, panel->p, rows, k);
    kern_pack_panel_ref(p, ref.p, rows, k);
    size_t wrong = 0;
    for (size_t i = 0; i < ref.n; i++) wrong += ref.p[i] != panel->p[i];
    guarded_free(&ref);
    return wrong;
}

static size_t wrong_values(const kern_packing *p, quant_type type, const guarded *panel, const unsigned char *const *rows,
                           size_t k) {
    guarded a = guarded_new(k * sizeof(float)), b = guarded_new(k * sizeof(float));
    size_t wrong = 0;
    for (size_t r = 0; r < KERN_PANEL; r++) {
        quant_get((int)type)->decode(floats(&a), rows[r], k);
        kern_panel_row(p, panel->p, r, k, floats(&b));
        for (size_t i = 0; i < k; i++) wrong += memcmp(floats(&a) + i, floats(&b) + i, sizeof(float)) != 0;
    }
    guarded_free(&a);
    guarded_free(&b);
    return wrong;
}

static void check_type(quant_type type, rng *r) {
    const quant_format *f = quant_get((int)type);
    const kern_packing *p = kern_packing_of(type);
    size_t wrong_pack = 0, wrong_row = 0;
    for (size_t n = 1; n <= 5; n++) {
        size_t k = n * f->block, row_bytes = n * f->bytes;
        guarded rows = guarded_new(KERN_PANEL * row_bytes), panel = guarded_new(kern_panel_bytes(p, k));
        const unsigned char *list[KERN_PANEL];
        for (size_t j = 0; j < KERN_PANEL; j++) list[j] = rows.p + (j * 7 + n) % KERN_PANEL * row_bytes;
        (void)snprintf(check.what, sizeof check.what, "packing %s, %zu columns", f->name, k);
        random_rows(type, &rows, row_bytes, k, r, false);
        wrong_pack += wrong_bytes(p, &panel, list, k);
        wrong_row += wrong_values(p, type, &panel, list, k);
        random_rows(type, &rows, row_bytes, k, r, type != QUANT_NVFP4); /* its scales change their format, NaN included */
        wrong_pack += wrong_bytes(p, &panel, list, k);
        guarded_free(&rows);
        guarded_free(&panel);
    }
    double ref_ns = 0, ns = 0;
    char name[48], speed[48] = "";
    if (check.bench || check.report) {
        enum { K = 2048 };
        size_t row_bytes = K / f->block * f->bytes;
        guarded rows = guarded_new(KERN_PANEL * row_bytes), panel = guarded_new(kern_panel_bytes(p, K));
        const unsigned char *list[KERN_PANEL];
        for (size_t j = 0; j < KERN_PANEL; j++) list[j] = rows.p + j * row_bytes;
        TIME_NS(ref_ns, kern_pack_panel_ref(p, panel.p, list, K));
        TIME_NS(ns, kern_pack_panel(p, panel.p, list, K));
        (void)snprintf(speed, sizeof speed, "%.1f GB/s, %.1fx scalar", (double)rows.n / ns, ref_ns / ns);
        guarded_free(&rows);
        guarded_free(&panel);
    }
    check.rung = p->pack ? "vectors" : "scalar";
    (void)snprintf(name, sizeof name, "pack %s", f->name);
    verdict(name, (double)wrong_pack, 0, ns > 0 ? ref_ns / ns : 0, speed);
    (void)snprintf(name, sizeof name, "unpack row %s", f->name);
    verdict(name, (double)wrong_row, 0, 0, "");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    rng r;
    rng_seed(&r, check.seed, 1);
    for (int t = 0; t < QUANT_TYPE_MAX; t++)
        if (kern_packing_of((quant_type)t)) check_type((quant_type)t, &r);
    return check.failed;
}
