"""Start the doctor's reports: Python imports this module when a program starts that the doctor runs."""

from instrumented_wrapper.doctor.inside import begin

begin()
