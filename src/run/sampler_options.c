/* sampler_options.c: which values the options of a sampler may have, and what a model's file recommends for them, in llama.cpp's keys (its pull request
 * 17120). general.sampling.sequence is left to the user. */
#include "run/sampler.h"

#include <stddef.h>

#define ADVISED "general.sampling."

typedef struct option {
    const char *name, *advised; /* advised: its key behind ADVISED; NULL: none */
    size_t at;
    bool whole; /* an int32_t, else a float */
    double least, most;
} option;

_Static_assert(sizeof(int) == sizeof(int32_t), "mirostat is an int");
#define AT(field) offsetof(mote_sample_opts, field)
static const option options[] = {
    {"temp", "temp", AT(temp), false, 0, 1000},
    {"dynatemp_range", NULL, AT(dynatemp_range), false, 0, 1000},
    {"dynatemp_exponent", NULL, AT(dynatemp_exponent), false, 0, 1000},
    {"top_k", "top_k", AT(top_k), true, INT32_MIN, INT32_MAX},
    {"top_p", "top_p", AT(top_p), false, 0, 1},
    {"min_p", "min_p", AT(min_p), false, 0, 1},
    {"typical_p", NULL, AT(typical_p), false, 0, 1},
    {"top_n_sigma", NULL, AT(top_n_sigma), false, -1000, 1000},
    {"min_keep", NULL, AT(min_keep), true, 0, INT32_MAX},
    {"xtc_probability", "xtc_probability", AT(xtc_probability), false, 0, 1},
    {"xtc_threshold", "xtc_threshold", AT(xtc_threshold), false, 0, 1},
    {"penalty_last_n", "penalty_last_n", AT(penalty_last_n), true, -1, MOTE_SAMPLE_LAST_N_MAX},
    {"repeat_penalty", "penalty_repeat", AT(repeat_penalty), false, 0.01, 100},
    {"frequency_penalty", NULL, AT(frequency_penalty), false, -1000, 1000},
    {"presence_penalty", NULL, AT(presence_penalty), false, -1000, 1000},
    {"dry_multiplier", NULL, AT(dry_multiplier), false, 0, 1000},
    {"dry_base", NULL, AT(dry_base), false, 0, 1000},
    {"dry_allowed_length", NULL, AT(dry_allowed_length), true, 0, INT32_MAX},
    {"dry_last_n", NULL, AT(dry_last_n), true, -1, MOTE_SAMPLE_LAST_N_MAX},
    {"mirostat", "mirostat", AT(mirostat), true, 0, 2},
    {"mirostat_tau", "mirostat_tau", AT(mirostat_tau), false, 0, 1000},
    {"mirostat_eta", "mirostat_eta", AT(mirostat_eta), false, 0, 1000},
};

static mote_status check(const option *of, const char *name, double v, mote_error *err) {
    if (v >= (double)(float)of->least && v <= of->most) return MOTE_OK; /* the float next to 0.01 lies below it */
    FAIL(err, MOTE_E_RANGE, "%s is %.10g; expected %.10g to %.10g", name, v, of->least, of->most);
}

mote_status sampler_check(const mote_sample_opts *o, mote_error *err) {
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        const void *at = (const char *)o + options[i].at;
        TRY(check(&options[i], options[i].name, options[i].whole ? *(const int32_t *)at : (double)*(const float *)at, err));
    }
    if (o->n_top > MOTE_SAMPLE_TOP_MAX) FAIL(err, MOTE_E_RANGE, "n_top is %zu; expected at most %d", o->n_top, MOTE_SAMPLE_TOP_MAX);
    if ((o->n_bias && !o->bias) || (o->n_dry_breakers && !o->dry_breakers))
        FAIL(err, MOTE_E_USAGE, "n_bias or n_dry_breakers counts elements of a NULL array");
    return MOTE_OK;
}

mote_status sampler_check_advice(const char *key, const char *name, double v, mote_error *err) {
    for (size_t i = 0; i < COUNT_OF(options); i++)
        if (options[i].advised && strcmp(key + sizeof ADVISED - 1, options[i].advised) == 0) return check(&options[i], name, v, err);
    FAIL(err, MOTE_E_INTERNAL, "'%s' is no recommendation for a sampler", key);
}

mote_status sampler_advice(const model_file *f, mote_sample_opts *o, mote_error *err) {
    for (size_t i = 0; f && i < COUNT_OF(options); i++) {
        char key[64], name[80];
        float v;
        if (!options[i].advised) continue;
        (void)snprintf(key, sizeof key, ADVISED "%s", options[i].advised);
        if (!model_file_find(f, key)) continue;
        TRY(kv_get_f32(f, key, &v, 0, err));
        if (options[i].whole && v >= (float)INT32_MAX) v = 2147483520.0F; /* the greatest float that is an int32_t */
        (void)snprintf(name, sizeof name, "metadata '%s'", key);
        TRY(check(&options[i], name, (double)v, err));
        void *at = (char *)o + options[i].at;
        if (options[i].whole) *(int32_t *)at = (int32_t)v;
        else *(float *)at = v;
    }
    return MOTE_OK;
}
