/* limits.c: what the machine can do at most, and what that allows a model. */
#include "run/run.h"
#include "tensor/machine.h"

mote_status run_machine(mote_engine *e, bool only_limits, mote_machine *out, mote_error *err) {
    const uint32_t mask = e->cpu_mask == CPU_SCALAR_ONLY ? 0 : e->cpu_mask ? e->cpu_mask : CPU_ALL;
    (void)pthread_mutex_lock(&e->lock);
    mote_status st = machine_measure(out, mask, pool_size(e->pool), only_limits, err);
    (void)pthread_mutex_unlock(&e->lock);
    return st;
}
