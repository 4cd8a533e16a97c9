#include "format/format_int.h"
mote_status hf_open(model_file **out, const char *dir, int flags, mote_error *err) {
    (void)flags;
    *out = NULL;
    FAIL(err, MOTE_E_UNSUPPORTED, "%s: folders are not supported yet", dir);
}
