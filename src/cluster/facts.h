/*
 * Facts: what was found out about one node, by asking the node itself. They are a value, copied from the monitors to
 * the topology; nothing is concluded here.
 *
 * A check that fails leaves what the server said before as it was: known_at says how old it is.
 */
#ifndef CLUSTER_FACTS_H
#define CLUSTER_FACTS_H

#include "base/clock.h"
#include "base/common.h"

#define FACTS_SENDERS_MAX 32u /* of pg_stat_replication; more are not looked at */
#define FACTS_NAME_MAX    64u

#define CHECK_RESULTS(X) \
	X(NEVER, "not checked yet") \
	X(GOOD, "it answered") \
	X(REFUSED, "it answered, but does not let the monitor in, or does not tell it what it asks for") \
	X(FAILED, "no connection, no answer in time, or no sense in the answer")

enum check_result {
#define X(name, meaning) CHECK_##name,
	CHECK_RESULTS(X)
#undef X
};

/* A row of pg_stat_replication: who streams from this node. */
struct facts_sender {
	char name[FACTS_NAME_MAX]; /* application_name */
	char state[16];            /* "streaming", "catchup" ... */
	char sync_state[12];       /* "async", "sync", "quorum", "potential"; "": not told */
	char address[48];          /* where it connects from; "": over a unix socket, or not told */
};

struct node_facts {
	/* checks */
	enum check_result last;
	uint32_t failed_in_row, good_in_row; /* REFUSED is good: the node is well */
	usec_t checked_at, failed_at;        /* by clock_now(); 0: never */
	uint64_t checked_wall;
	usec_t latency;  /* from the question to its answer, last time; 0: not measured */
	char error[200]; /* of the last check; "" when it was good */
	/* what the server said; meaningless unless known */
	bool known;
	usec_t known_at;
	uint32_t version; /* server_version_num */
	bool in_recovery;
	bool tells_log; /* its log, its clock, whether it receives: all of the rest; HeliosDB does not */
	bool read_only; /* default_transaction_read_only, as the monitor's user has it */
	bool replay_paused;
	uint64_t system_id;               /* of pg_control; nodes of one cluster share it */
	uint32_t timeline;                /* 0: unknown */
	uint64_t current_lsn;             /* of a node that is read-write; 0: unknown, also below */
	uint64_t receive_lsn, replay_lsn; /* of a standby */
	int64_t replay_age_us;   /* age of the last transaction replayed, by the standby's clock; -1: unknown */
	int64_t clock_skew_us;   /* its clock less ours, as well as the round trip lets us know */
	bool receiving;          /* a WAL receiver runs */
	char upstream_host[256]; /* where it receives from; "": unknown */
	uint16_t upstream_port;  /* 0: unknown */
	char application_name[FACTS_NAME_MAX]; /* by which its upstream knows it */
	uint32_t wal_block, wal_segment;       /* sizes in bytes */
	struct facts_sender senders[FACTS_SENDERS_MAX];
	uint32_t sender_count;
};

/* What to ask a node, as one Query message: a row for facts_take_node(), then rows for facts_take_sender(). Needs no
 * privileges; with those of pg_monitor it tells more. PostgreSQL 12 and later. */
extern const char facts_query[];

#define FACTS_NODE_COLUMNS   18u
#define FACTS_SENDER_COLUMNS 4u

/* From the texts of a row; NULL: an SQL null. wall: of ours when the answer came, round_trip: how long that took. Other
 * fields stay. -EPROTO: it makes no sense, and *facts is as before. */
int facts_take_node(struct node_facts *facts, const char *const *columns, uint32_t count, uint64_t wall,
		    usec_t round_trip) MUST_USE;
int facts_take_sender(struct node_facts *facts, const char *const *columns, uint32_t count) MUST_USE;

/* Between checks: where it is, and no more. One row. */
extern const char position_query[];

#define FACTS_POSITION_COLUMNS 4u

struct facts_position {
	bool in_recovery;
	uint64_t lsn;     /* replayed, or where the next record will be inserted; 0: unknown */
	uint64_t flushed; /* of a node that is read-write */
};

/* The row of a heartbeat; 0: none. */
int facts_take_beat(uint64_t *beat, const char *const *columns, uint32_t count) MUST_USE;
int facts_take_position(struct facts_position *position, const char *const *columns, uint32_t count) MUST_USE;

#endif
