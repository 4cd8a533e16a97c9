#include "format/format_int.h"
void st_close(st_file **f) { *f = NULL; }
