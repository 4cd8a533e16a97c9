/* book_avx512.c: book.h's inner loops, AVX512. */
#define BOOK_OPS book_avx512
#include "quant/book_tmpl.h"
