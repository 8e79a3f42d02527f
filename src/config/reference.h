/* Pages made from the tables of directives, of errors and of events, so that they can't go stale. */
#ifndef CONFIG_REFERENCE_H
#define CONFIG_REFERENCE_H

#include <stdio.h>

void reference_markdown(FILE *out); /* docs/reference/configuration.md */
void reference_man(FILE *out);      /* man/proxy.toml.5 */
int reference_schema(FILE *out);    /* JSON schema of proxy.toml. 0 or -ENOMEM */
void reference_errors(FILE *out);   /* docs/reference/errors.md */
void reference_events(FILE *out);   /* docs/reference/events.md */

#endif
