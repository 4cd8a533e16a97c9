/* bind.h: binding of tensors to slots; used while a model is opened. */
#ifndef MOTE_MODEL_BIND_H
#define MOTE_MODEL_BIND_H

#include "model/arch.h"

/* Puts every tensor of the file into its slot. Unknown names are an error that lists them. */
mote_status bind_tensors(model *m, mote_error *err);
/* After all blocks are bound: biases times the residual scale. */
mote_status bind_scaled_biases(model *m, mote_error *err);
/* After all blocks are bound: a tensor nobody uses is an error. */
mote_status bind_check_all_used(const model *m, mote_error *err);
/* adapt.c: gives the weights the adapters of m->opts. */
mote_status bind_adapters(model *m, mote_error *err);
/* extra.c: the extra heads of m->opts, and their weights among those to be packed. */
mote_status bind_heads(model *m, mote_error *err);

#endif
