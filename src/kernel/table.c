/* table.c: the scalar versions first, then the ladder. */
#include "kernel/generic/ref.h"
#include "kernel/rungs.h"
#include "kernel/split.h"

void kern_table_init(kern_table *t, uint32_t mask) {
    *t = (kern_table){
        .quantize = kern_quantize_ref,
        .interleave = kern_interleave_ref,
        .rotate = kern_rotate_ref,
        .rms_norm = kern_rms_norm_ref,
        .layer_norm = kern_layer_norm_ref,
        .act = kern_act_row_ref,
        .axpy = kern_axpy_ref,
        .dot = kern_dot_ref,
        .max = kern_max_ref,
        .exp_sum = kern_exp_sum_ref,
        .scale = kern_scale_ref,
        .mix = kern_mix_ref,
        .soften = kern_soften_ref,
        .tile = kern_tile_ref,
        .pairs = kern_pairs_ref,
        .bf16_of_f32 = kern_bf16_of_f32_ref,
        .bf16_of_f16 = kern_bf16_of_f16_ref,
        .bf16_zip = kern_bf16_zip_ref,
        .soften_bf16 = kern_soften_bf16_ref,
        .gemm = kern_gemm_ref,
        .train = kern_train_ref,
        .recall = kern_recall_ref,
        .absorb = kern_absorb_ref,
        .conv = kern_conv_ref,
        .scan_each = kern_scan_each_ref,
        .scan_delta = kern_scan_delta_ref,
        .scan_back = kern_scan_back_ref,
        .screen = kern_screen_ref,
        .refine = kern_refine_ref,
        .merge = kern_merge_ref,
        .split_mul = kern_split_mul_ref,
        .fmul = {[QUANT_F32] = kern_fmul_f32_ref, [QUANT_F16] = kern_fmul_f16_ref, [QUANT_BF16] = kern_fmul_bf16_ref},
        .widen = {[QUANT_F32] = kern_widen_f32_ref, [QUANT_F16] = kern_widen_f16_ref, [QUANT_BF16] = kern_widen_bf16_ref,
                  [QUANT_Q8_0] = kern_widen_q8_0_ref, [QUANT_Q4_0] = kern_widen_q4_0_ref},
        .widen_columns = {[QUANT_Q8_0] = kern_widen_columns_q8_0_ref, [QUANT_Q4_0] = kern_widen_columns_q4_0_ref},
        .unzip = {[QUANT_F16] = kern_unzip_f16_ref, [QUANT_BF16] = kern_unzip_bf16_ref},
        .narrow = {[QUANT_F32] = kern_narrow_f32_ref, [QUANT_F16] = kern_narrow_f16_ref, [QUANT_BF16] = kern_narrow_bf16_ref},
    };
    for (int i = 0; i < QUANT_TYPE_MAX; i++)
        if (kern_packing_of((quant_type)i)) t->mul[i] = kern_mul_ref;
#ifdef MOTE_SIMD_ISA
    t->flags = cpu_detect() & mask;
    kern_init_isa(t, t->flags);
#else
    (void)mask;
#endif
    t->rung = cpu_rung_name(t->flags);
}
