package lifeboatv1

// HeaderRequestID carries the id of a write, chosen by whoever asks: 1 to 64 visible
// ASCII characters. The cluster does once what comes again from the same caller
// with the same id.
const HeaderRequestID = "Lifeboat-Request-Id"

// HeaderNoLeader is in a refusal by a node that lives and reaches no leader, or does not
// lead any more: another one most likely says the same. What a report said may count
// already; saying it again is harmless.
const HeaderNoLeader = "Lifeboat-No-Leader"
