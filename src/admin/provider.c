/* What a provider says of the cluster, for /topology and the metrics. */
#include "admin/admin_priv.h"

#include "admin/metrics.h"

#include "cluster/patroni.h"

static const char *state_word(enum patroni_state state)
{
	static const char *const words[] = {[PATRONI_WAITING] = "waiting",
					    [PATRONI_ANSWERS] = "answers",
					    [PATRONI_SILENT] = "silent",
					    [PATRONI_OFF] = "off"};

	return words[state];
}

static json_t *member_json(const struct patroni_member *m)
{
	json_t *json = json_object(), *tags = json_object();

	json_put(json, "name", json_text(m->name));
	json_put(json, "host", json_text(m->host));
	json_put(json, "port", json_integer(m->port));
	json_put(json, "role", json_text(m->role_text));
	json_put(json, "state", json_text_or_null(m->state));
	json_put(json, "timeline", m->timeline ? json_integer(m->timeline) : json_null());
	json_put(json, "lag_bytes", m->knows_lag ? json_integer((json_int_t)m->lag) : json_null());
	json_put(json, "api_url", json_text_or_null(m->api_url));
	json_put(tags, "nofailover", json_boolean(m->no_failover));
	json_put(tags, "noloadbalance", json_boolean(m->no_load_balance));
	json_put(tags, "replicatefrom", json_text_or_null(m->replicate_from));
	json_put(json, "tags", tags);
	return json;
}

static json_t *switchover_json(const struct patroni_answer *a)
{
	json_t *json;

	if (!a->has_switchover)
		return json_null();
	json = json_object();
	json_put(json, "at", json_text_or_null(a->switchover_at));
	json_put(json, "from", json_text_or_null(a->switchover_from));
	json_put(json, "to", json_text_or_null(a->switchover_to));
	return json;
}

static json_t *view_json(const struct patroni_view *view)
{
	const struct patroni_member *leader = patroni_answer_leader(&view->answer);
	json_t *json = json_object(), *members = json_array();

	for (uint32_t i = 0; i < view->answer.count; i++)
		(void)json_array_append_new(members, member_json(&view->answer.members[i]));
	json_put(json, "state", json_text(state_word(view->state)));
	json_put(json, "url", json_text_or_null(view->url));
	json_put(json, "lastAnswerAt", time_json(view->answered_wall));
	json_put(json, "error", json_text_or_null(view->error));
	json_put(json, "scope", json_text_or_null(view->answer.scope));
	json_put(json, "leader", leader ? json_text(leader->name) : json_null());
	json_put(json, "pause", json_boolean(view->answer.paused));
	json_put(json, "scheduledSwitchover", switchover_json(&view->answer));
	json_put(json, "members", members);
	return json;
}

/* NULL: Patroni is not asked, or out of memory. free() it. */
static struct patroni_view *look(struct admin *admin)
{
	struct patroni_view *view = admin->context.patroni ? malloc(sizeof(*view)) : NULL;

	if (view)
		patroni_look(admin->context.patroni, view);
	if (view && view->state == PATRONI_OFF) {
		free(view);
		view = NULL;
	}
	return view;
}

json_t *patroni_json(struct admin *admin)
{
	struct patroni_view *view = look(admin);
	json_t *json = view ? view_json(view) : json_null();

	free(view);
	return json;
}

/* X(metric, kind, help, value) */
#define PATRONI_METRICS(X) \
	X("up", "gauge", "1 when Patroni answered the last time that it was asked, or the time before.", \
	  view->state == PATRONI_ANSWERS) \
	X("has_leader", "gauge", "1 when it names a leader that may be the primary.", \
	  view->state == PATRONI_ANSWERS && leader && leader->role == PATRONI_LEADER) \
	X("paused", "gauge", "1 when it does not fail over.", view->answer.paused) \
	X("members", "gauge", "Members that it named last.", view->answer.count) \
	X("members_left_out", "gauge", "Of these, those that cannot be used.", view->answer.left_out) \
	X("polls_total", "counter", "Times that it was asked.", view->asked) \
	X("poll_failures_total", "counter", "Times that none of its URLs answered.", view->failed) \
	X("last_answer_timestamp_seconds", "gauge", "When it answered last, in seconds since 1970; 0: never.", \
	  (double)view->answered_wall / 1e6)

static const struct metric patroni_metrics[] = {
#define X(name, kind, help, value) {"heliosdb_proxy_patroni_" name, kind, help},
	PATRONI_METRICS(X)
#undef X
};

/* Without Patroni there are no samples. */
static bool expose_patroni(struct exposition *e, struct admin *admin, const struct metric *m)
{
	struct patroni_view *view = look(admin);
	const struct patroni_member *leader = view ? patroni_answer_leader(&view->answer) : NULL;

	if (!view)
		return true;
#define X(name, kind, help, value) exposition_single(e, m++, (double)(value));
	PATRONI_METRICS(X)
#undef X
	free(view);
	return true;
}

const struct metric_group metrics_patroni = {"", "What [Patroni](../patroni.md) says, where it is asked.",
					     patroni_metrics, ARRAY_SIZE(patroni_metrics), expose_patroni};
