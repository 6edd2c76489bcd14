package ha

// LookEverywhere has every VM that waits for a host looked at with every host, and nothing
// remembered but when something is due.
func (s *Soft) LookEverywhere(m *Memo) {
	s.exhaustive, s.Memo = true, &Memo{balance: m.balance, repair: m.repair}
}
