/* calib_text.h: the default calibration text, compiled in; calib_text.md says what it is and under which licence. */
#ifndef MOTE_TRAIN_CALIB_TEXT_H
#define MOTE_TRAIN_CALIB_TEXT_H

#include "base/str.h"

/* UTF-8, documents with two empty lines between them. Static storage. */
str calibration_text(void);

#endif
