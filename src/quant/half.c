/* half.c: 16-bit and 8-bit floats, and the levels of the 4-bit ones. */
#include "quant/quant_int.h"

const int8_t quant_e2m1_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float quant_f16_to_f32(uint16_t h) {
    return quant_half_value(h);
}

uint16_t quant_f32_to_f16(float f) {
    return quant_to_half(f);
}

uint16_t quant_f32_to_bf16(float f) {
    return quant_to_bf16(f);
}

float quant_ue4m3_half(uint8_t x) {
    if (x == 0 || x == 0x7F) return 0.0f;
    int exp = x >> 3 & 15, mant = x & 7;
    quant_bits pow2 = {(uint32_t)(exp ? exp + 127 - 11 : 127 - 10) << 23};
    return (float)(exp ? 8 + mant : mant) * pow2.f;
}
