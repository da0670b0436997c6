/*
 * One timer, two consumers, one keeper, one editor that edits and then cancels; two attempts by policy.
 *
 * The item is the table's: every write to it is one atomic step with its condition (DynamoDB's conditional
 * write), every read is a step of its own, so that anything may happen between a read and the write that
 * follows. A hint only says "look at version v". Hints may be lost, doubled, reordered and late; the message
 * counts as acknowledged the moment it is taken, so nothing here relies on a redelivery.
 *
 * Time is what the code may know of it. A claim's lease goes through phases:
 *
 *   RUN      a call that starts now ends before the lease does: the claimer may start
 *   ENDING   the claimer's own clock forbids to start; a call in progress goes on
 *   EARLY    over by the fastest clock; a call may still be in progress by the slowest
 *   OVER     over by every clock: a call's own time-out has passed, so none is in progress
 *
 * A fault is a crash of a consumer, a lost answer, a lost or doubled hint, or a claimer that is held up.
 * There are at most FAULTS of them, then the world is well: every end must be a final state.
 *
 * -DNO_... removes one guard each; every one must make the check fail (check.sh).
 */

#ifndef FAULTS
#define FAULTS 2
#endif
#define POLICY 2          /* attempts */
#define LOST_ALLOWED 1    /* attempts beyond the policy whose consumer died; 3 in the code */
#define VERSIONS 30

mtype = { SCHEDULED, FIRING, DELIVERED, DEAD, CANCELLED };
mtype = { NONE, RUN, ENDING, EARLY, OVER };

/* the item */
mtype state = SCHEDULED;
byte version = 1;
byte made = 0;
byte owner = 0;

/* the world */
bool hinted = true;       /* a hint of the current version is under way: the api has published it */
mtype lease[2] = NONE;    /* of each consumer's latest claim */
bool abandoned[2];        /* its claimer has died or does not know that it won */
bool calling[2];          /* a call under it is in progress */
byte faults = FAULTS;
hidden byte v;            /* of the hint at hand: used within one step only */

/* what clients were told */
byte acknowledged = 0;
bool cancel_acknowledged = false;

#define FINAL (state == DELIVERED || state == DEAD || state == CANCELLED)

#ifdef NO_CLAIM_CONDITION
#define MAY_CLAIM(v) true
#else
#ifdef NO_CLAIM_VERSION
#define MAY_CLAIM(v) (state == SCHEDULED)
#else
#define MAY_CLAIM(v) (state == SCHEDULED && version == v)
#endif
#endif

#ifdef NO_SETTLE_VERSION
#define MAY_SETTLE(v) true
#else
#define MAY_SETTLE(v) (version == v)
#endif

#ifdef NO_TAKEOVER_VERSION
#define MAY_TAKE_OVER(v) true
#else
#define MAY_TAKE_OVER(v) (version == v)
#endif

#ifdef NO_EDIT_VERSION
#define MAY_EDIT(v) true
#else
#define MAY_EDIT(v) (version == v)
#endif

#ifdef NO_START_GUARD
#define MAY_START(c) true
#else
#define MAY_START(c) (lease[c] == RUN)
#endif

#ifdef NO_LEASE
#define LEASE_OVER(c) true
#else
#ifdef NO_SKEW
#define LEASE_OVER(c) (lease[c] == EARLY || lease[c] == OVER)
#else
#define LEASE_OVER(c) (lease[c] == OVER)
#endif
#endif

inline write(to) {
    assert(!FINAL);               /* what is final stays so */
    state = to;
    version++;
    hinted = false;
    assert(version < VERSIONS);
}

inline publish(which) {
    hinted = (hinted || which == version)
}

inline fault() {
    faults > 0 -> faults--;
}

/* The promises, at the moment a call leaves. */
inline start(me, mine) {
    assert(!calling[0] && !calling[1]);              /* one at a time */
    assert(!cancel_acknowledged);                    /* nothing after a cancel */
    assert(mine > acknowledged);                     /* no old version after an edit */
    assert(!FINAL);                                  /* nothing settled is called again */
    assert(state == FIRING && version == mine);      /* the claim still holds */
    calling[me] = true;
}

inline pass(c) {
    atomic {
        if
        :: lease[c] == RUN && (abandoned[c] || calling[c]) -> lease[c] = ENDING
        :: lease[c] == RUN && !abandoned[c] && !calling[c] && faults > 0 -> faults--; lease[c] = ENDING  /* held up */
        :: lease[c] == ENDING -> lease[c] = EARLY
        :: lease[c] == EARLY -> calling[c] = false; lease[c] = OVER      /* the call's time-out has passed */
        fi
    }
}

/*
 * A hint of the current version, if one is under way; or an old one, if it would do anything: of any earlier
 * version there may always be one somewhere, and one whose claim fails changes nothing.
 */
inline take_a_hint() {
    if
    :: hinted -> v = version;
        if
        :: hinted = false
        :: faults > 0 -> faults--                     /* doubled: it stays */
        fi
    :: version > 1 && MAY_CLAIM(1) -> v = 1
    :: version > 2 && MAY_CLAIM((version - 1)) -> v = version - 1
    fi
}

inline forget() {
    mine = 0; well = false
}

/* Gone in the middle: nobody settles this claim any more. */
inline die() {
    fault(); abandoned[me] = true; forget()
}

/* Done with a claim: its lease does not matter any more. */
inline done() {
    lease[me] = NONE; abandoned[me] = false; forget()
}

proctype Consumer(byte me) {
    byte mine;
    bool well;

idle:
    atomic {                                          /* a hint, and the claim that it leads to */
        take_a_hint();
        if
        :: MAY_CLAIM(v) ->
            assert(!FINAL);
            mine = v + 1;
            state = FIRING; version = mine; owner = me; hinted = false;
            lease[me] = RUN; abandoned[me] = false
        :: else -> goto idle                          /* stale: nothing to do */
        fi
    }
    if
    :: atomic { die(); goto idle }                    /* or it never hears that it won */
    :: atomic { MAY_START(me) -> start(me, mine) }
    :: atomic {                                       /* too late to start: as before, nothing was called */
            !MAY_START(me) ->
            if
            :: MAY_SETTLE(mine) -> write(SCHEDULED); mine = version; goto hand_on
            :: else -> forget(); goto idle
            fi
        }
    fi;
    if
    :: atomic { die(); goto idle }                    /* the call goes on */
    :: atomic { calling[me] -> calling[me] = false; well = true }
    :: atomic { calling[me] -> calling[me] = false }
    :: !calling[me]                                   /* timed out */
    fi;
    if
    :: atomic { die(); goto idle }
    :: atomic {                                       /* the settle */
            if
            :: !MAY_SETTLE(mine) -> forget(); goto idle           /* somebody else decides */
            :: MAY_SETTLE(mine) && well -> made++; write(DELIVERED); done(); goto idle
            :: MAY_SETTLE(mine) && !well && made + 1 >= POLICY -> made++; write(DEAD); done(); goto idle
            :: MAY_SETTLE(mine) && !well && made + 1 < POLICY -> made++; write(SCHEDULED); mine = version
            fi
        }
    fi;
hand_on:
    if
    :: atomic { fault(); done(); goto idle }          /* dies before it publishes, or the hint is lost */
    :: atomic { publish(mine); done(); goto idle }
    fi
}

/* Re-drives what waits and nobody was told of; takes over what a dead consumer left. */
proctype Keeper() {
    byte seen;

    do
#ifndef NO_REDRIVE
    :: atomic { state == SCHEDULED && !hinted -> seen = version };
        atomic { publish(seen); seen = 0 }
#endif
#ifndef NO_TAKEOVER
    :: atomic { state == FIRING && LEASE_OVER(owner) -> seen = version };
        atomic {
            if
            :: !MAY_TAKE_OVER(seen) -> seen = 0
            :: MAY_TAKE_OVER(seen) ->
                made++;
                if
                :: abandoned[owner] && lease[owner] == OVER -> lease[owner] = NONE; abandoned[owner] = false
                :: else
                fi;
                if
                :: made >= POLICY + LOST_ALLOWED -> write(DEAD); seen = 0
                :: else -> write(SCHEDULED); seen = version
                fi
            fi
        };
        atomic {
            if
            :: seen > 0 -> publish(seen); seen = 0
            :: else
            fi
        }
#endif
    od
}

/* Edits, then cancels; each reads, decides, writes, and only then tells its client. */
proctype Editor() {
    byte seen;
    bool may;

edit:
    atomic { seen = version; may = (state == SCHEDULED) };
    if
    :: !may -> goto cancel                            /* 409 */
    :: may
    fi;
#ifdef ACK_FROM_MEMORY
    acknowledged = seen + 1;
#endif
    atomic {
        if
        :: MAY_EDIT(seen) -> write(SCHEDULED); made = 0; seen = version
        :: else -> goto edit
        fi
    };
    acknowledged = seen;
    if
    :: atomic { fault() }                             /* the api dies before it has published */
    :: publish(seen)
    fi;
cancel:
    atomic { seen = version; may = (state == SCHEDULED) };
    if
    :: !may -> goto end                               /* 409 */
    :: may
    :: may -> goto end                                /* the client leaves it at the edit */
    fi;
#ifdef ACK_FROM_MEMORY
    cancel_acknowledged = true;
#endif
    atomic {
        if
        :: MAY_EDIT(seen) -> write(CANCELLED)
        :: else -> goto cancel
        fi
    };
    cancel_acknowledged = true;
end:
    atomic { seen = 0; may = false }
}

/* Lets the time of each lease pass. */
proctype Time() {
    do
    :: pass(0)
    :: pass(1)
    od
}

/* Where nothing more can happen, the timer must be final. */
proctype Watch() {
    timeout -> assert(FINAL)
}

init {
    atomic {
            run Consumer(0);
        run Consumer(1);
        run Keeper();
        run Editor();
        run Time();
        run Watch()
    }
}
