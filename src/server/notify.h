/* systemd's Type=notify and its watchdog; nothing where the proxy is built without, or not run by, systemd. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include "base/clock.h"

#include <sys/types.h>

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
void notify_status(const char *text);
void notify_main_pid(pid_t pid);
/* How often notify_watchdog() is expected, or 0. */
usec_t notify_watchdog_period(void);
void notify_watchdog(void);

#endif
