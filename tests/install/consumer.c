/* consumer.c: a program of someone else. It has a json_parse of its own, which must not meet the library's. */
#include <mote/status.h>
#include <mote/version.h>

#include <stdio.h>
#include <string.h>

int json_parse(const char *text);
int json_parse(const char *text) { return (int)strlen(text); }

int main(void) {
    if (strcmp(mote_version(), MOTE_VERSION) != 0 || json_parse("abc") != 3) return 1;
    return printf("mote %s: %s\n", mote_version(), mote_status_text(MOTE_OK)) < 0;
}
