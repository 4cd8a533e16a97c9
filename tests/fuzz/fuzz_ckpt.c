/* fuzz_ckpt.c: any bytes as a checkpoint of training. The hash of the table is mended, so that the table itself is reached; what opens can
 * be read back section by section. */
#include "fuzz_files.h"
#include "train/ckpt.h"

enum { HEAD = 16, DIGITS = SHA256_HEX - 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void mend(unsigned char *p, size_t n) {
    uint64_t bytes;
    char hex[SHA256_HEX];
    if (n < HEAD) return;
    memcpy(p, "motectp1", 8);
    memcpy(&bytes, p + 8, 8);
    if (n < HEAD + DIGITS || bytes > n - HEAD - DIGITS) return;
    sha256 *h = sha256_new();
    if (!h) return;
    sha256_update(h, p + HEAD, bytes);
    sha256_final(h, hex);
    sha256_free(h);
    memcpy(p + HEAD + bytes, hex, DIGITS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    unsigned char *copy = malloc(n ? n : 1);
    ckpt *c;
    if (!copy) return 0;
    if (n) memcpy(copy, data, n);
    if (n && data[n - 1] & 1) mend(copy, n);
    if (ckpt_open(&c, fuzz_file("f", copy, n), NULL) == MOTE_OK) {
        if (!json_is_object(ckpt_meta(c))) abort();
        for (size_t i = 0; i < ckpt_n_sections(c); i++) {
            ckpt_section s = {.n = 0};
            str b = ckpt_find(c, ckpt_section_name(c, i));
            if (!b.p || strlen(ckpt_section_name(c, i)) >= sizeof s.name) continue;
            (void)snprintf(s.name, sizeof s.name, "%s", ckpt_section_name(c, i));
            s.n = b.n;
            s.p = malloc(b.n ? b.n : 1);
            if (s.p && ckpt_read(c, &s, 1, NULL) == MOTE_OK && memcmp(s.p, b.p, b.n)) abort();
            free(s.p);
        }
        ckpt_close(&c);
    } else if (c) abort();
    free(copy);
    return 0;
}
