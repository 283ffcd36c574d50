/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/lock.h - the lock of what workers share for a moment.
 *
 * Receives: nothing.  Gives: a mutex.  Must not know: what it guards.
 */
#pragma once

#include <pthread.h>

/**
 * lock_init() - a mutex whose holders never do more than bookkeeping
 * @m: in the caller's storage; pthread_mutex_lock(), _unlock() and _destroy() as ever
 * Who finds it taken looks again for a while before it sleeps: a sleep and a wake are two system calls and cost more than such a
 * section, and with more workers they would make all of them slower than one.
 */
static inline void lock_init(pthread_mutex_t *m)
{
	pthread_mutexattr_t attr;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(m, &attr);
	pthread_mutexattr_destroy(&attr);
}
