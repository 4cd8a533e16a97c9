/* fault.h: failing calls on purpose. The linker sends the library's calls here (--wrap); jansson's allocations come
 * too, once fault_init has told it. What lives is counted, so that a leak shows without a sanitizer. */
#ifndef MOTE_TESTS_FAULT_H
#define MOTE_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_kind { FAULT_NONE, FAULT_ALLOC, FAULT_READ /* open, read, mmap */, FAULT_WRITE /* fwrite, fsync, rename */ };

void fault_init(void);
/* From now on the n-th call (1 is the next) of a kind fails, and with `sticky` all after it. Counts begin anew. */
void fault_arm(enum fault_kind kind, size_t n, bool sticky);
void fault_disarm(void);
bool fault_happened(void);  /* since fault_arm */
size_t fault_allocations(void); /* since fault_init or fault_arm */
size_t fault_live(void);    /* blocks that are allocated now */

#endif
