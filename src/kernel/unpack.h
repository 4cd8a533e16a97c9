/* unpack.h: one unpacker per format; for the packing table only (pack.c). */
#ifndef MOTE_KERNEL_UNPACK_H
#define MOTE_KERNEL_UNPACK_H

#include "kernel/packed.h"
#include "quant/layout.h"

#define UNPACKER(name) void unpack_##name(const unsigned char *const rows[KERN_PANEL], size_t block, kern_block *out)
UNPACKER(q4_0);
UNPACKER(q4_1);
UNPACKER(q5_0);
UNPACKER(q5_1);
UNPACKER(q8_0);
UNPACKER(q2_k);
UNPACKER(q3_k);
UNPACKER(q4_k);
UNPACKER(q5_k);
UNPACKER(q6_k);
UNPACKER(iq4_nl);
UNPACKER(iq4_xs);
UNPACKER(mxfp4);
UNPACKER(nvfp4);
UNPACKER(iq2_xxs);
UNPACKER(iq2_xs);
UNPACKER(iq2_s);
UNPACKER(iq3_xxs);
UNPACKER(iq3_s);
UNPACKER(iq1_s);
UNPACKER(iq1_m);
UNPACKER(tq1_0);
UNPACKER(tq2_0);
UNPACKER(q1_0);
UNPACKER(q2_0);
UNPACKER(q4_96);
UNPACKER(q3_96);
UNPACKER(q2_96);
UNPACKER(tq1_192);
UNPACKER(q4_0_24);
UNPACKER(q8_0_24);
#undef UNPACKER

/* Whole panels (pack_fast.c): the bytes of kern_pack_panel_ref. rows: 16 of k columns. */
#define PACKER(name) void pack_##name(unsigned char *panel, const unsigned char *const *rows, size_t k)
PACKER(q4_0);
PACKER(q4_1);
PACKER(q5_0);
PACKER(q5_1);
PACKER(q8_0);
PACKER(q2_k);
PACKER(q3_k);
PACKER(q4_k);
PACKER(q5_k);
PACKER(q6_k);
PACKER(iq4_xs);
PACKER(mxfp4);
PACKER(tq2_0);
PACKER(q1_0);
PACKER(q2_0);
PACKER(q4_96);
PACKER(q3_96);
PACKER(q2_96);
#undef PACKER

/* A block of one row; what a format does not have stays 0. */
typedef struct row_block {
    uint32_t u[8];
    uint16_t d, m;
    uint8_t s[2], ms[2];
} row_block;

/* UNPACK(name) { … } defines unpack_name: the body is one row, (row, block) into *out. */
#define UNPACK(name)                                                                                          \
    static inline void row_##name(const unsigned char *row, size_t block, row_block *out);                    \
    void unpack_##name(const unsigned char *const rows[KERN_PANEL], size_t block, kern_block *out) {          \
        for (size_t r = 0; r < KERN_PANEL; r++) {                                                             \
            row_block one = {0};                                                                              \
            row_##name(rows[r], block, &one);                                                                 \
            for (int g = 0; g < 8; g++) out->u[g][r] = one.u[g];                                              \
            out->d[r] = one.d;                                                                                \
            out->m[r] = one.m;                                                                                \
            for (int i = 0; i < 2; i++) out->s[i][r] = one.s[i];                                              \
            for (int i = 0; i < 2; i++) out->ms[i][r] = one.ms[i];                                            \
        }                                                                                                     \
    }                                                                                                         \
    static inline void row_##name(const unsigned char *row, size_t block, row_block *out)

/* Codebook formats: all values a weight can take are 16 at most, so they pack as indices into these. */
extern const int8_t unpack_iq2_levels[16], unpack_iq3_xxs_levels[16], unpack_iq3_s_levels[16],
    unpack_iq1_levels[16];

#endif
