/*
 * SET key = value: a value that counts more than the file's until the next reload or start. key: section.key as in
 * proxy.toml, or PgBouncer's name of a setting that is one key here.
 */
#include "console/console_priv.h"

#include "import/import.h"

#include <stdio.h>

struct setting_job {
	struct console_job base; /* first */
	char section[COMMAND_NAME_MAX], name[COMMAND_NAME_MAX], value[COMMAND_VALUE_MAX];
	char why[300];
};

static int work(struct console_job *base)
{
	struct setting_job *job = container_of(base, struct setting_job, base);
	const struct console_context *c = &base->console->context;

	return c->set(c->server, job->section, job->name, job->value, job->why, sizeof(job->why));
}

static void tell(struct talk *t, struct console_job *base)
{
	struct setting_job *job = container_of(base, struct setting_job, base);

	if (base->result < 0)
		talk_refuse(t, "SET %s failed: %s", t->now.command.name, *job->why ? job->why : "out of memory");
}

/* false: it was refused. */
static bool name_key(struct talk *t, const char *name, struct setting_job *job)
{
	const char *dot = strchr(name, '.'), *section, *key;

	if (dot) {
		snprintf(job->section, sizeof(job->section), "%.*s", (int)(dot - name), name);
		snprintf(job->name, sizeof(job->name), "%s", dot + 1);
		return true;
	}
	switch (import_setting_key(name, &section, &key)) {
	case 0:
		snprintf(job->section, sizeof(job->section), "%s", section);
		snprintf(job->name, sizeof(job->name), "%s", key);
		return true;
	case -ENOENT:
		talk_refuse(t, "unrecognized configuration parameter \"%s\"", name);
		return false;
	default:
		talk_refuse(t, "%s is no one key here: SET \"section.key\", see SHOW CONFIG", name);
		return false;
	}
}

void operate_setting(struct talk *t, const struct command *c)
{
	struct setting_job *job = calloc(1, sizeof(*job));

	if (!job) {
		console_client_out_of_memory(&t->client);
		return;
	}
	if (!name_key(t, c->name, job)) {
		free(job);
		return;
	}
	snprintf(job->value, sizeof(job->value), "%s", c->value);
	job->base.work = work;
	job->base.tell = tell;
	console_job_begin(t, &job->base);
}
