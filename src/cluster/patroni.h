/*
 * Patroni: a thread that asks it who belongs to the cluster and who its leader is, [topology] provider = "patroni".
 *
 * Any of its URLs will do: the one that answered last is asked first, and when it does not answer at once the next one
 * is asked as well. Those that were learned from an answer stand behind the configured ones, so that the machines that
 * the configuration names may all be gone.
 *
 *   WAITING --an answer--> ANSWERS <--> SILENT      no URL answered, PATRONI_PATIENCE times in a row
 *      \------------------no answer-------^
 *
 * WAITING: nobody is the leader yet. ANSWERS: who is, is what it said last. SILENT: it says nothing; the members that
 * it named stay, and what the nodes say of themselves decides alone. OFF: another provider is configured.
 */
#ifndef CLUSTER_PATRONI_H
#define CLUSTER_PATRONI_H

#include "base/clock.h"
#include "cluster/patroni_answer.h"
#include "config/config.h"

#define PATRONI_PATIENCE 2u

enum patroni_state { PATRONI_WAITING, PATRONI_ANSWERS, PATRONI_SILENT, PATRONI_OFF };

struct patroni;

struct patroni_context {
	/*
	 * The members, or what is known of them, are others than before. decides: the leader that it names is the only
	 * one that may be the primary, and without one nobody is; else it has nothing to say on that. On its thread,
	 * but for the first time (no members yet). False: that could not be taken; it is said again with the next
	 * answer.
	 */
	bool (*told)(void *server, const struct patroni_answer *answer, bool decides);
	/* Another provider was configured: what it said counts no more. */
	void (*left)(void *server);
	void *server;
};

/* For people. Some 90 kB. */
struct patroni_view {
	enum patroni_state state;
	char url[PATRONI_URL_MAX]; /* that answered last */
	char error[300];           /* of the last round in which nobody answered; "" */
	uint64_t answered_wall;    /* 0: never */
	uint64_t asked, failed;    /* rounds */
	struct patroni_answer answer;
};

/* OFF, and without a thread. NULL: out of memory. */
struct patroni *patroni_new(const struct patroni_context *context);
/* Control thread, at the start and at a reload: with this configuration from now on. 0 or -errno: then as before. */
int patroni_configure(struct patroni *patroni, const struct config *config) MUST_USE;
/* Any thread: something is wrong, or has changed: it is to be asked at once. Cheap. NULL is fine. */
void patroni_ask(struct patroni *patroni);
/* Any thread. */
void patroni_look(struct patroni *patroni, struct patroni_view *view);
/* Ends the thread; the rest may still be called. NULL is fine. */
void patroni_stop(struct patroni *patroni);
void patroni_free(struct patroni *patroni); /* stopped. NULL is fine */

#endif
