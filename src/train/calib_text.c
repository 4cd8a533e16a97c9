/* calib_text.c: the text as bytes (mote_embed). */
#include "train/calib_text.h"

extern const unsigned char train_calibration[];
extern const size_t train_calibration_bytes;

str calibration_text(void) { return (str){(const char *)train_calibration, train_calibration_bytes}; }
