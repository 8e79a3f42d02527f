/*
 * What a text on the console says. Pure: no command is run here.
 *
 *   SHOW name   PAUSE [database]   KILL_CLIENT id   SET key = value   ...
 *   ADD NODE host:port [key = value]...   {REMOVE | ENABLE | DISABLE | DRAIN | UNDRAIN} NODE name [FORCE]
 *
 * Words are as PgBouncer's: letters, digits and underscores, or anything in double quotes; case counts only there. One
 * command a text, a semicolon behind it or not, comments where blanks may stand. What drivers send by themselves
 * (BEGIN, DISCARD ALL, SELECT 1, ...) is understood, too.
 */
#ifndef CONSOLE_COMMAND_H
#define CONSOLE_COMMAND_H

#include "base/common.h"
#include "cluster/operation.h"

#define COMMAND_NAME_MAX  64u
#define COMMAND_VALUE_MAX 1024u

enum command_verb {
	COMMAND_EMPTY,
	COMMAND_SHOW,
	COMMAND_SELECT_ONE, /* SELECT 1 */
	COMMAND_SET,
	COMMAND_PAUSE,
	COMMAND_RESUME,
	COMMAND_WAIT_CLOSE,
	COMMAND_RECONNECT,
	COMMAND_DISABLE,
	COMMAND_ENABLE,
	COMMAND_KILL,
	COMMAND_KILL_CLIENT,
	COMMAND_RELOAD,
	COMMAND_SUSPEND,
	COMMAND_SHUTDOWN,
	COMMAND_BEGIN,
	COMMAND_COMMIT,
	COMMAND_ROLLBACK,
	COMMAND_NODE,
	COMMAND_IDLE, /* changes a state that the console does not have: RESET, DISCARD, DEALLOCATE, ... */
};

struct command {
	enum command_verb verb;
	char tag[24];                  /* of its CommandComplete */
	char name[COMMAND_NAME_MAX];   /* what to show, a database, an id, a key; "" */
	char value[COMMAND_VALUE_MAX]; /* of SET; of a node: its name or host:port; of one to add: as JSON */
	enum node_operation operation; /* of COMMAND_NODE */
	bool force;                    /* likewise */
};

/* 0; -EINVAL: it is no command; -E2BIG: a word is too long. */
int command_read(struct slice text, struct command *ret) MUST_USE;

#endif
