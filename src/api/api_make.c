/* api_make.c: body of mote/make.h. */
#include "api/api_int.h"
#include "compress/maker.h"

mote_status mote_make(const char *recipe, const mote_make_options *options, mote_make_report *report, mote_error *err) {
    API_NEED(recipe, err);
    API_NEED(options, err);
    if (!options->run && !options->dry_run) FAIL(err, MOTE_E_USAGE, "mote_make: nobody to run the stages (options.run)");
    return make_recipe(recipe, options, report, err);
}
