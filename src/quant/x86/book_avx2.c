/* book_avx2.c: book.h's inner loops, AVX2. */
#define BOOK_OPS book_avx2
#include "quant/book_tmpl.h"
