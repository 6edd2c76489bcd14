package redfishsim

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	root     = "/redfish/v1"
	system   = root + "/Systems/1"
	reset    = system + "/Actions/ComputerSystem.Reset"
	sessions = root + "/SessionService/Sessions"
)

type object map[string]any

func link(path string) object { return object{"@odata.id": path} }

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+root, s.serviceRoot)
	mux.HandleFunc("GET "+root+"/{$}", s.serviceRoot)
	mux.HandleFunc("POST "+sessions, s.createSession)
	mux.HandleFunc("DELETE "+sessions+"/{id}", s.guarded(s.deleteSession))
	mux.HandleFunc("GET "+root+"/Systems", s.guarded(s.systems))
	mux.HandleFunc("GET "+system, s.guarded(s.system))
	mux.HandleFunc("GET "+root+"/Systems/2", s.guarded(s.otherSystem))
	mux.HandleFunc("POST "+reset, s.guarded(s.reset))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := s.current()
		if f.Down {
			panic(http.ErrAbortHandler) // net/http's way to cut a connection
		}
		if f.Delay > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(f.Delay):
			}
		}
		if f.Errors {
			fail(w, http.StatusInternalServerError, "InternalError", "The simulated BMC is out of order.")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.authorized(r) {
			fail(w, http.StatusUnauthorized, "NoValidSession", "There is no valid session and no valid user and password.")
			return
		}
		next(w, r)
	}
}

func (s *Server) serviceRoot(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{
		"@odata.id": root, "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot",
		"Id": "RootService", "Name": "Simulated BMC", "RedfishVersion": "1.15.0",
		"Systems": link(root + "/Systems"), "SessionService": link(root + "/SessionService"),
		"Links": object{"Sessions": link(sessions)},
	})
}

func (s *Server) createSession(w http.ResponseWriter, r *http.Request) {
	var in struct{ UserName, Password string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&in); err != nil || !s.login(in.UserName, in.Password) {
		fail(w, http.StatusUnauthorized, "ResourceAtUriUnauthorized", "User or password is wrong.")
		return
	}
	token := rand.Text()
	s.mu.Lock()
	s.minted++
	id := strconv.Itoa(s.minted)
	s.sessions[id] = token
	s.mu.Unlock()
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", sessions+"/"+id)
	answer(w, http.StatusCreated, object{"@odata.id": sessions + "/" + id, "Id": id, "Name": "Session", "UserName": in.UserName})
}

func (s *Server) deleteSession(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) systems(w http.ResponseWriter, _ *http.Request) {
	members := []object{link(system)}
	if s.current().TwoSystems {
		members = append(members, link(root+"/Systems/2"))
	}
	answer(w, http.StatusOK, object{
		"@odata.id": root + "/Systems", "@odata.type": "#ComputerSystemCollection.ComputerSystemCollection",
		"Name": "Systems", "Members": members, "Members@odata.count": len(members),
	})
}

func (s *Server) system(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{
		"@odata.id": system, "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
		"Id": "1", "Name": "Machine", "UUID": s.cfg.UUID, "SerialNumber": s.cfg.Serial, "PowerState": s.powerState(),
		"Actions": object{"#ComputerSystem.Reset": object{
			"target": reset, "ResetType@Redfish.AllowableValues": s.resetTypes(),
		}},
	})
}

func (s *Server) otherSystem(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, object{
		"@odata.id": root + "/Systems/2", "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
		"Id": "2", "Name": "Another machine", "UUID": "d35ab5bc-99dc-4a95-8f1c-0cf06bd0a1a7", "PowerState": "Off",
	})
}

func (s *Server) powerState() string {
	f := s.current()
	on := s.cfg.Power()
	if f.Flaps {
		s.mu.Lock()
		s.reads++
		on = s.reads%2 == 0
		s.mu.Unlock()
	}
	switch {
	case f.PowerState != "":
		return f.PowerState
	case on:
		return "On"
	default:
		return "Off"
	}
}

func (s *Server) resetTypes() []string {
	if types := s.current().ResetTypes; types != nil {
		return types
	}
	return []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}
}

func (s *Server) reset(w http.ResponseWriter, r *http.Request) {
	var in struct{ ResetType string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&in); err != nil {
		fail(w, http.StatusBadRequest, "MalformedJSON", "The request is not JSON.")
		return
	}
	s.mu.Lock()
	s.resets = append(s.resets, in.ResetType)
	s.mu.Unlock()

	f := s.current()
	if !slices.Contains(s.resetTypes(), in.ResetType) {
		fail(w, http.StatusBadRequest, "ActionParameterNotSupported", "The reset type "+strconv.Quote(in.ResetType)+" is not offered.")
		return
	}
	switch {
	case f.RefuseReset:
		fail(w, http.StatusInternalServerError, "InternalError", "The simulated BMC does not want to.")
		return
	case f.Lies:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err := s.switchPower(in.ResetType, f); err != nil {
		fail(w, err.status, "ResourceInUse", err.text)
		return
	}
	if f.LateError {
		fail(w, http.StatusInternalServerError, "InternalError", "The simulated BMC did it and fell over.")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

type refusal struct {
	status int
	text   string
}

func (s *Server) switchPower(resetType string, f Faults) *refusal {
	off := resetType == "ForceOff" || resetType == "GracefulShutdown"
	if off && f.Conflict && !s.cfg.Power() {
		return &refusal{http.StatusConflict, "The machine is already off."}
	}
	steps := []bool{!off}
	if resetType == "ForceRestart" {
		steps = []bool{false, true}
	}
	for _, on := range steps {
		if err := s.cfg.SetPower(on); err != nil {
			return &refusal{http.StatusInternalServerError, err.Error()}
		}
	}
	return nil
}

func answer(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("OData-Version", "4.0")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, object{"error": object{
		"code": "Base.1.16." + code, "message": message,
		"@Message.ExtendedInfo": []object{{"MessageId": "Base.1.16." + code, "Message": message}},
	}})
}
