package session

import (
	goflag "flag"
	"os"
	"testing"
)

// TestMain fixes the seed of the random tests, so that a change fails by its own
// fault. `make fuzz` looks further, with fresh seeds (LIFEBOAT_SEED=fresh).
func TestMain(m *testing.M) {
	goflag.Parse()
	if seed := goflag.Lookup("rapid.seed"); os.Getenv("LIFEBOAT_SEED") != "fresh" && seed.Value.String() == seed.DefValue {
		if err := seed.Value.Set("1"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
