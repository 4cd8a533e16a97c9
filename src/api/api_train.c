/* api_train.c: body of mote/train.h. */
#include "train/train_model.h"

#include "api/api_int.h"

mote_status mote_train(const mote_train_options *options, mote_train_report *report, mote_error *err) {
    API_NEED(options, err);
    return train_model(options, report, err);
}
