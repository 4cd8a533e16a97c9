/* profile.c: profiles of a session's passes, as include/mote/eval.h hands them out. */
#include "run/run.h"
#include "tensor/prof.h"

mote_status run_profile_start(mote_session *s, mote_error *err) {
    if (s->prof) prof_clear(s->prof);
    else s->prof = prof_open(pool_size(s->model->engine->pool));
    if (!s->prof) FAIL(err, MOTE_E_MEMORY, "out of memory for a profile");
    state_set_prof(s->st, s->prof);
    return MOTE_OK;
}

void run_profile_stop(mote_session *s) {
    if (!s->prof) return;
    state_set_prof(s->st, NULL);
    prof_close(&s->prof);
}

static mote_profile_row row_of(const prof_slot *s) {
    static const char *const units[] = {[PROF_NO_UNIT] = "", [PROF_INT8] = "int8", [PROF_BF16] = "bf16", [PROF_F32] = "f32"};
    const quant_format *f = s->format >= 0 ? quant_get(s->format) : NULL;
    return (mote_profile_row){.op = prof_op_name(s->op), .tensor = s->label ? s->label : "", .format = f ? f->name : "",
                              .unit = units[s->unit], .calls = s->calls, .ns = s->ns, .bytes = s->bytes, .ops = s->ops};
}

mote_status run_profile_read(const mote_session *s, int phase, mote_profile_phase *out, mote_error *err) {
    prof_slot rows[MOTE_PROFILE_ROWS_MAX];
    if (!s->prof) FAIL(err, MOTE_E_USAGE, "the session is not profiled");
    if (phase < 0 || phase >= PROF_PHASES) FAIL(err, MOTE_E_RANGE, "phase %d; expected 0 or 1", phase);
    *out = (mote_profile_phase){.passes = s->prof->passes[phase], .tokens = s->prof->tokens[phase], .ns = s->prof->pass_ns[phase]};
    out->n_rows = prof_rows(s->prof, (prof_phase)phase, rows, COUNT_OF(rows));
    for (size_t i = 0; i < out->n_rows; i++) out->rows[i] = row_of(&rows[i]);
    return MOTE_OK;
}
