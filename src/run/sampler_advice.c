/* sampler_advice.c: what a model's file recommends for drawing, in llama.cpp's keys (its pull request 17120). general.sampling.sequence is left to
 * the user. */
#include "run/sampler.h"

#include <math.h>

mote_status sampler_advice(const model_file *f, mote_sample_opts *o, mote_error *err) {
    const struct {
        const char *key;
        float *number;
        int32_t *count; /* one of both */
        double least, most;
    } all[] = {
        {"general.sampling.temp", &o->temp, NULL, 0, 1000},
        {"general.sampling.top_k", NULL, &o->top_k, -1, INT32_MAX},
        {"general.sampling.top_p", &o->top_p, NULL, 0, 1},
        {"general.sampling.min_p", &o->min_p, NULL, 0, 1},
        {"general.sampling.xtc_probability", &o->xtc_probability, NULL, 0, 1},
        {"general.sampling.xtc_threshold", &o->xtc_threshold, NULL, 0, 1},
        {"general.sampling.penalty_last_n", NULL, &o->penalty_last_n, -1, MOTE_SAMPLE_LAST_N_MAX},
        {"general.sampling.penalty_repeat", &o->repeat_penalty, NULL, 0.01, 100},
        {"general.sampling.mirostat", NULL, &o->mirostat, 0, 2},
        {"general.sampling.mirostat_tau", &o->mirostat_tau, NULL, 0, 1000},
        {"general.sampling.mirostat_eta", &o->mirostat_eta, NULL, 0, 1000},
    };
    for (size_t i = 0; f && i < COUNT_OF(all); i++) {
        float v;
        if (!model_file_find(f, all[i].key)) continue;
        TRY(kv_get_f32(f, all[i].key, &v, 0, err));
        if (!((double)v >= all[i].least && (double)v <= all[i].most)) FAIL(err, MOTE_E_RANGE, "metadata '%s' is %g; expected %g to %g", all[i].key, (double)v, all[i].least, all[i].most);
        if (all[i].number) *all[i].number = v;
        else *all[i].count = (double)v >= INT32_MAX ? INT32_MAX : (int32_t)v;
    }
    return MOTE_OK;
}
