/* rungs.h: what the folders of the ISAs offer to the table. */
#ifndef MOTE_KERNEL_RUNGS_H
#define MOTE_KERNEL_RUNGS_H

#include "kernel/kernel.h"

/* Overwrites the entries of t that this machine's family does better with `flags`, weakest ISA first. */
void kern_init_isa(kern_table *t, uint32_t flags);

#endif
