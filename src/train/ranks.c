#include "train/ranks.h"
#include "train/ranks_module.h"

#include <dlfcn.h>

struct ranks {
    void *library;
    const ranks_module *m;
    bool left;
};

mote_status ranks_open(ranks **out, const char *module, mote_error *err) {
    *out = NULL;
    ranks *r = MEM_NEW(ranks);
    if (!r) FAIL(err, MOTE_E_MEMORY, "out of memory");
    mote_status s = MOTE_OK;
    if (!module) {
        *out = r;
        return MOTE_OK;
    }
    r->library = dlopen(module, RTLD_NOW | RTLD_GLOBAL); /* global: OpenMPI opens parts of its own that need its symbols */
    if (!r->library) FAILG(s, err, MOTE_E_NOT_FOUND, "%s: cannot be opened: %s", module, dlerror());
    union { /* POSIX's way from an object pointer to a function pointer */
        void *p;
        ranks_module_fn *fn;
    } entry = {dlsym(r->library, RANKS_MODULE_ENTRY)};
    const ranks_module *m = entry.p ? entry.fn() : NULL;
    if (!m || m->version != RANKS_MODULE_VERSION) FAILG(s, err, MOTE_E_UNSUPPORTED, "%s: a module of another version of mote", module);
    if (m->start() != 0) FAILG(s, err, MOTE_E_UNSUPPORTED, "%s: MPI does not start", module);
    r->m = m;
    *out = r;
    return MOTE_OK;
out:
    ranks_close(&r);
    return s;
}

void ranks_close(ranks **r) {
    if (!*r) return;
    if ((*r)->m && !(*r)->left) (*r)->m->end(); /* the library stays: MPI's threads may outlive MPI_Finalize */
    mem_free(*r);
    *r = NULL;
}

void ranks_leave(ranks *r) {
    if (r) r->left = true;
}

int ranks_rank(const ranks *r) { return r && r->m ? r->m->rank() : 0; }
int ranks_size(const ranks *r) { return r && r->m ? r->m->size() : 1; }

static mote_status told(int failed, mote_error *err) {
    if (failed) FAIL(err, MOTE_E_NETWORK, "MPI could not reach the other processes of this run");
    return MOTE_OK;
}

mote_status ranks_sum(ranks *r, float *x, size_t n, mote_error *err) {
    return ranks_size(r) > 1 ? told(r->m->sum_f32(x, n), err) : MOTE_OK;
}
mote_status ranks_sum_f64(ranks *r, double *x, size_t n, mote_error *err) {
    return ranks_size(r) > 1 ? told(r->m->sum_f64(x, n), err) : MOTE_OK;
}
mote_status ranks_share(ranks *r, void *p, size_t n, mote_error *err) {
    return ranks_size(r) > 1 ? told(r->m->share(p, n), err) : MOTE_OK;
}
