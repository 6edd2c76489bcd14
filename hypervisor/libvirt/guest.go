package libvirt

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// askTime is how long a guest's agent may take to answer, in seconds. libvirt gives up
// then; CallTimeout is longer.
const askTime = 3

// Ask implements hypervisor.Asker by a ping of the QEMU guest agent.
func (d *Driver) Ask(ctx context.Context, id hypervisor.UUID) error {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, id)
	if err == nil {
		err = order(ctx, l, d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error {
			_, err := lv.QEMUDomainAgentCommand(dom, `{"execute":"guest-ping"}`, askTime, 0)
			return err
		})
	}
	return failed("ask the agent of", id.String(), err)
}
