/* sampler.c: opening a sampling chain, and running it. */
#include "run/sampler.h"

#include <math.h>
#include <sys/random.h>

static const struct {
    const char *name;
    char letter;
} step_names[STEPS] = {
#define SAMPLE_STEP_NAME(id, text, letter) {text, letter},
    SAMPLE_STEP_MAP(SAMPLE_STEP_NAME)
#undef SAMPLE_STEP_NAME
};

static bool step_by_name(str name, sample_step *step) {
    static const struct {
        const char *name;
        sample_step step;
    } aliases[] = {{"typical", STEP_TYPICAL}, {"typical_p", STEP_TYPICAL}, {"temp", STEP_TEMPERATURE},
                   {"top-k", STEP_TOP_K}, {"top-p", STEP_TOP_P}, {"min-p", STEP_MIN_P},
                   {"top-n-sigma", STEP_TOP_N_SIGMA}, {"typ-p", STEP_TYPICAL}};
    for (size_t i = 0; i < STEPS; i++) {
        if (!str_is(name, step_names[i].name)) continue;
        *step = (sample_step)i;
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(aliases); i++) {
        if (!str_is(name, aliases[i].name)) continue;
        *step = aliases[i].step;
        return true;
    }
    return false;
}

static mote_status add_step(mote_sampler *s, sample_step step, mote_error *err) {
    if (s->n_steps == COUNT_OF(s->steps))
        FAIL(err, MOTE_E_LIMIT, "sampler order: more than %zu steps", COUNT_OF(s->steps));
    s->steps[s->n_steps++] = step;
    return MOTE_OK;
}

/* "edskypmxt": a letter per step, as llama.cpp's --sampling-seq. */
static bool is_letters(str order) {
    for (size_t i = 0; i < order.n; i++) {
        size_t k = 0;
        while (k < STEPS && step_names[k].letter != order.p[i]) k++;
        if (k == STEPS) return false;
    }
    return true;
}

static mote_status parse_order(mote_sampler *s, const char *order, mote_error *err) {
    str rest = str_of(order ? order : MOTE_SAMPLE_ORDER_DEFAULT);
    sample_step step;
    if (is_letters(rest)) {
        for (size_t i = 0; i < rest.n; i++)
            for (size_t k = 0; k < STEPS; k++)
                if (step_names[k].letter == rest.p[i]) TRY(add_step(s, (sample_step)k, err));
        return MOTE_OK;
    }
    while (rest.n) {
        size_t end = MIN(str_find(rest, STR(";"), 0), rest.n);
        str name = str_sub(rest, 0, end);
        rest = end == rest.n ? str_sub(rest, end, 0) : str_sub(rest, end + 1, rest.n - end - 1);
        if (name.n == 0) continue;
        if (!step_by_name(name, &step))
            FAIL(err, MOTE_E_USAGE, "sampler order: unknown step '%.*s'; known are %s", STR_ARG(name),
                 MOTE_SAMPLE_ORDER_DEFAULT);
        TRY(add_step(s, step, err));
    }
    return MOTE_OK;
}

/* ---- opening ---- */

static size_t resolve_last_n(int32_t n, size_t n_ctx) {
    return n >= 0 ? (size_t)n : MIN(n_ctx, (size_t)MOTE_SAMPLE_LAST_N_MAX);
}

static mote_status open_history(mote_sampler *s, size_t n_ctx, mote_error *err) {
    const mote_sample_opts *o = &s->o;
    bool penalties = o->repeat_penalty != 1 || o->frequency_penalty != 0 || o->presence_penalty != 0;
    s->penalty_n = penalties ? resolve_last_n(o->penalty_last_n, n_ctx) : 0;
    s->dry_n = o->dry_multiplier > 0 && o->dry_base >= 1 ? resolve_last_n(o->dry_last_n, n_ctx) : 0;
    s->hist_cap = MAX(s->penalty_n, s->dry_n);
    if (s->hist_cap == 0) return MOTE_OK;
    s->hist = MEM_NEW_N(int32_t, 2 * s->hist_cap);
    s->stamp = MEM_NEW_N(uint32_t, s->n_vocab);
    if (s->penalty_n) s->count = MEM_NEW_N(uint32_t, s->n_vocab);
    if (!s->hist || !s->stamp || (s->penalty_n && !s->count))
        FAIL(err, MOTE_E_MEMORY, "out of memory for the sampler's history of %zu tokens", s->hist_cap);
    if (s->dry_n) TRY(sample_dry_open(s, err));
    return MOTE_OK;
}

static mote_status open_biases(mote_sampler *s, mote_error *err) {
    const mote_sample_opts *o = &s->o;
    if (o->n_bias) {
        s->bias = MEM_NEW_N(mote_logit_bias, o->n_bias);
        if (!s->bias) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu logit biases", o->n_bias);
        for (size_t i = 0; i < o->n_bias; i++) {
            if (o->bias[i].id < 0 || (size_t)o->bias[i].id >= s->n_vocab)
                FAIL(err, MOTE_E_RANGE, "logit bias %zu: token %d is outside the vocabulary of %zu", i,
                     (int)o->bias[i].id, s->n_vocab);
            if (isnan(o->bias[i].bias) || o->bias[i].bias == INFINITY)
                FAIL(err, MOTE_E_RANGE, "logit bias %zu (token %d) is %g; expected a number or -inf", i,
                     (int)o->bias[i].id, (double)o->bias[i].bias);
        }
        memcpy(s->bias, o->bias, o->n_bias * sizeof *o->bias);
        s->n_bias = o->n_bias;
    }
    if (!o->ignore_end || !s->vocab) return MOTE_OK;
    size_t n = MIN(tok_count(s->vocab), s->n_vocab), n_ends = 0;
    for (size_t i = 0; i < n; i++) n_ends += tok_is_eog(s->vocab, (int32_t)i);
    s->ends = MEM_NEW_N(int32_t, n_ends);
    if (!s->ends) FAIL(err, MOTE_E_MEMORY, "out of memory for the list of ending tokens");
    for (size_t i = 0; i < n; i++)
        if (tok_is_eog(s->vocab, (int32_t)i)) s->ends[s->n_ends++] = (int32_t)i;
    return MOTE_OK;
}

mote_status sampler_open(mote_sampler **out, size_t n_vocab, size_t n_ctx, const tok_vocab *vocab,
                         const mote_sample_opts *o, mote_error *err) {
    mote_status st = MOTE_OK;
    *out = NULL;
    if (n_vocab == 0 || n_vocab > INT32_MAX)
        FAIL(err, MOTE_E_UNSUPPORTED, "a sampler needs a model that computes logits; this one has none");
    TRY(sampler_check(o, err));
    mote_sampler *s = MEM_NEW(mote_sampler);
    if (!s) FAIL(err, MOTE_E_MEMORY, "out of memory for a sampler");
    s->o = *o;
    s->n_vocab = n_vocab;
    s->vocab = vocab;
    s->work = MEM_NEW_N(float, n_vocab);
    s->c = MEM_NEW_N(cand, n_vocab);
    s->forced = MEM_NEW_N(int32_t, HEAD_FORCED_MAX);
    if (!s->work || !s->c || !s->forced) FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu candidates", n_vocab);
    if (o->logprobs) {
        s->n_top = MIN(o->n_top, n_vocab);
        s->top = MEM_NEW_N(mote_logprob, s->n_top);
        if (!s->top) FAILG(st, err, MOTE_E_MEMORY, "out of memory for %zu log-probabilities", s->n_top);
    }
    s->seed = o->seed;
    if (s->seed == MOTE_SEED_RANDOM && getrandom(&s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed)
        FAILG(st, err, MOTE_E_IO, "the operating system gave no random seed; give one");
    TRYG(st, parse_order(s, o->order, err));
    TRYG(st, open_history(s, n_ctx, err));
    TRYG(st, open_biases(s, err));
    s->o.bias = NULL;
    s->o.order = NULL;
    s->o.dry_breakers = NULL;
    sampler_reset(s);
    *out = s;
    return MOTE_OK;
out:
    sampler_free(s);
    return st;
}

void sampler_free(mote_sampler *s) {
    if (!s) return;
    void *parts[] = {s->work, s->c, s->bias, s->ends, s->hist, s->count, s->stamp, s->dry_len, s->dry_z,
                     s->dry_hit, s->breakers, s->dry_tails, s->top, s->forced, s};
    for (size_t i = 0; i < COUNT_OF(parts); i++) mem_free(parts[i]);
}

static void count_nothing(mote_sampler *s) {
    s->n_counted = 0;
    if (s->count) memset(s->count, 0, s->n_vocab * sizeof *s->count);
}

void sampler_reset(mote_sampler *s) {
    rng_seed(&s->draw_rng, s->seed, 1);
    rng_seed(&s->xtc_rng, s->seed, 2);
    s->hist_begin = s->n_hist = 0;
    count_nothing(s);
    s->mu = 2 * (double)s->o.mirostat_tau;
    s->chosen = (mote_logprob){-1, 0};
}

void sampler_accept(mote_sampler *s, int32_t id) {
    if (s->hist_cap == 0 || id < 0 || (size_t)id >= s->n_vocab) return;
    if (s->hist_begin + s->n_hist == 2 * s->hist_cap) {
        memmove(s->hist, s->hist + s->hist_begin, s->n_hist * sizeof *s->hist);
        s->hist_begin = 0;
    }
    if (s->count) {
        if (s->n_counted == s->penalty_n) s->count[s->hist[s->hist_begin + s->n_hist - s->penalty_n]]--;
        else s->n_counted++;
        s->count[id]++;
    }
    s->hist[s->hist_begin + s->n_hist] = id;
    if (s->n_hist < s->hist_cap) s->n_hist++;
    else s->hist_begin++;
}

void sampler_prompt(mote_sampler *s, const int32_t *ids, size_t n) {
    s->hist_begin = s->n_hist = 0;
    count_nothing(s);
    for (size_t i = n > s->hist_cap ? n - s->hist_cap : 0; i < n; i++) sampler_accept(s, ids[i]);
    if (!s->o.penalty_prompt) count_nothing(s);
}

/* ---- drawing ---- */

static mote_status bad_logits(const float *logits, size_t n, mote_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!(logits[i] < INFINITY))
            FAIL(err, MOTE_E_OUTPUT, "the logit of token %zu is %s; the model or its file is damaged", i,
                 isnan(logits[i]) ? "NaN" : "infinite");
    FAIL(err, MOTE_E_OUTPUT, "every token is forbidden: all logits are -inf");
}

/* Lanes of constant number without a branch: compilers make vectors of them. Each lane keeps its first greatest. */
mote_status sample_argmax(const float *logits, size_t n, int32_t *id, mote_error *err) {
    enum { LANES = 16 };
    const size_t whole = n / LANES * LANES;
    float top[LANES];
    int32_t at[LANES] = {0}, bad[LANES] = {0}, best = 0;
    for (size_t k = 0; k < LANES; k++) top[k] = -INFINITY;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            const float x = logits[i + k];
            const int32_t greater = -(x > top[k]);
            bad[k] |= !(x < INFINITY);
            top[k] = x > top[k] ? x : top[k];
            at[k] = (at[k] & ~greater) | ((int32_t)i & greater);
        }
    float most = -INFINITY;
    for (size_t k = 0; k < LANES; k++) {
        const int32_t place = at[k] + (int32_t)k;
        bad[0] |= bad[k];
        if (top[k] > most || (top[k] == most && place < best)) most = top[k], best = place;
    }
    for (size_t i = whole; i < n; i++) {
        bad[0] |= !(logits[i] < INFINITY);
        if (logits[i] > most) most = logits[i], best = (int32_t)i;
    }
    if (bad[0] || !(most > -INFINITY)) return bad_logits(logits, n, err);
    *id = best;
    return MOTE_OK;
}

static void run_step(mote_sampler *s, sample_step step) {
    static void (*const steps[STEPS])(mote_sampler *) = {
        [STEP_PENALTIES] = sample_penalties,
        [STEP_DRY] = sample_dry,
        [STEP_TOP_N_SIGMA] = sample_top_n_sigma,
        [STEP_TOP_K] = sample_top_k,
        [STEP_TYPICAL] = sample_typical,
        [STEP_TOP_P] = sample_top_p,
        [STEP_MIN_P] = sample_min_p,
        [STEP_XTC] = sample_xtc,
        [STEP_TEMPERATURE] = sample_temperature,
    };
    steps[step](s);
}

static bool looks_back(sample_step step) { return step == STEP_PENALTIES || step == STEP_DRY; }

static void run_chain(mote_sampler *s) {
    bool miro = s->o.mirostat != 0;
    for (size_t i = 0; i < s->n_steps; i++)
        if (!miro || looks_back(s->steps[i])) run_step(s, s->steps[i]);
    if (!miro) return;
    if (s->o.temp > 0) sample_temperature(s);
    if (s->o.mirostat == 1) sample_mirostat1_cut(s);
    else sample_mirostat2_cut(s);
}

/* The candidate at which the running sum of probabilities passes a uniform number. */
static const cand *draw_cand(mote_sampler *s) {
    sample_make_sparse(s);
    cand_softmax(s);
    double r = rng_double(&s->draw_rng), sum = 0;
    const cand *last = &s->c[0];
    for (size_t i = 0; i < s->n; i++) {
        if (s->c[i].p <= 0) continue;
        last = &s->c[i];
        sum += s->c[i].p;
        if (r < sum) break;
    }
    return last;
}

static void note_logprobs(mote_sampler *s, const float *logits, int32_t id) {
    double max = -HUGE_VAL, sum = 0;
    for (size_t i = 0; i < s->n_vocab; i++) max = MAX(max, (double)logits[i]);
    for (size_t i = 0; i < s->n_vocab; i++) sum += exp((double)logits[i] - max);
    double log_z = max + log(sum);
    s->chosen = (mote_logprob){id, (float)((double)logits[id] - log_z)};
    if (s->n_top == 0) return;
    for (size_t i = 0; i < s->n_vocab; i++) s->c[i] = (cand){logits[i], (int32_t)i, 0};
    cand_top(s->c, s->n_vocab, s->n_top);
    for (size_t i = 0; i < s->n_top; i++)
        s->top[i] = (mote_logprob){s->c[i].id, (float)((double)s->c[i].logit - log_z)};
}

/* No step but penalties can change which token is the likeliest, except these two. */
bool sample_is_greedy(const mote_sampler *s) {
    return s->o.temp <= 0 && s->o.dynatemp_range <= 0 && s->o.mirostat == 0 &&
           (s->o.xtc_probability <= 0 || s->o.xtc_threshold > 0.5f) && s->o.typical_p >= 1;
}

void sample_look_back(mote_sampler *s) {
    for (size_t i = 0; i < s->n_steps; i++)
        if (looks_back(s->steps[i])) run_step(s, s->steps[i]);
}

int32_t sample_by_chain(mote_sampler *s) {
    run_chain(s);
    const cand *c;
    if (s->o.temp <= 0 && s->o.mirostat == 0) {
        sample_make_sparse(s);
        cand_top(s->c, s->n, 1);
        c = &s->c[0];
    } else {
        c = draw_cand(s);
    }
    if (s->o.mirostat) s->mu -= (double)s->o.mirostat_eta * (-log2(c->p) - (double)s->o.mirostat_tau);
    return c->id;
}

mote_status sampler_draw(mote_sampler *s, const float *logits, int32_t *id, mote_error *err) {
    int32_t best;
    TRY(sample_argmax(logits, s->n_vocab, &best, err)); /* also refuses NaN and infinity */
    bool edits = s->n_bias || s->n_ends || s->n_hist, greedy = sample_is_greedy(s);
    s->found = false;
    if (!greedy || edits) {
        memcpy(s->work, logits, s->n_vocab * sizeof *logits);
        s->dense = true;
        s->sorted = false;
        for (size_t i = 0; i < s->n_bias; i++) s->work[s->bias[i].id] += s->bias[i].bias;
        for (size_t i = 0; i < s->n_ends; i++) s->work[s->ends[i]] = -INFINITY;
        if (greedy) sample_look_back(s);
        TRY(sample_argmax(s->work, s->n_vocab, &best, err));
    }
    if (!greedy) best = sample_by_chain(s);
    sampler_accept(s, best);
    if (s->o.logprobs) note_logprobs(s, logits, best);
    *id = best;
    return MOTE_OK;
}
