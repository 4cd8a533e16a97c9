/* book_scan.c: book.h's inner loops for any machine. */
#define BOOK_OPS book_generic
#include "quant/book_tmpl.h"
