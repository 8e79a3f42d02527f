/*
 * The programs that look at a running proxy and steer it, over its admin API: `heliosdb-proxy ctl` and `top`, and the
 * shells' completion. They know nothing of the proxy's inside; see docs/ctl.md and docs/top.md.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <stdio.h>

/* argv[0] is the command's name. The process's exit status. */
int ctl_command(int argc, char **argv);
int top_command(int argc, char **argv);
/* Prints what makes a shell complete: completion bash|zsh. */
int completion_command(int argc, char **argv);
/* What the last word of a line (without the program's name) may become: a candidate, a tab, what it means. */
int complete_command(int argc, char **argv);

/* From the table of verbs. */
void ctl_reference(FILE *out);
void ctl_man(FILE *out);

#endif
